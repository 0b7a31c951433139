# Sourced by the other scripts: puts a Python that has xscan and its tools first on PATH.
#
# An environment in which this checkout is already installed is used as it is; otherwise one is
# made in ./.venv, and made anew when pyproject.toml changes. Needs Python 3.11 or newer with venv.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

use_own_environment() {
    local stamp=.venv/.installed
    if ! cmp -s pyproject.toml "$stamp"; then
        rm -rf .venv
        "${PYTHON:-python3}" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
        cp pyproject.toml "$stamp"
    fi
    export PATH="$PWD/.venv/bin:$PATH"
}

# For scripts that only need some environment with this checkout in it: theirs, else .venv as it is, else a new one.
use_any_environment() {
    is_installed_in python3 && return
    if is_installed_in "$PWD/.venv/bin/python"; then
        export PATH="$PWD/.venv/bin:$PATH"
    else
        use_own_environment
    fi
}

is_installed_in() {
    local where
    where=$(cd / && "$1" -c 'import pathlib, xscan; print(pathlib.Path(xscan.__file__).parents[1])' 2>/dev/null) &&
        [ "$where" = "$PWD" ]
}

# Run a module of tests/soak in place of the script.
run_soak() {
    export PYTHONPATH="$PWD/tests${PYTHONPATH:+:$PYTHONPATH}"
    exec python3 -m "soak.$1" "${@:2}"
}

# The tests run the CUDA kernels on the CPU and need a C++ compiler for it; Zig's wheel is one, of
# 400 MB, so that it is installed only where there is no other.
use_a_compiler() {
    [ -n "${CXX:-}" ] || command -v g++ > /dev/null || command -v clang++ > /dev/null ||
        .venv/bin/python -m pip install --quiet --disable-pip-version-check ziglang
}
