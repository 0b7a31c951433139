"""Who may import whom, what an import costs, and what a built package holds."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Container
from pathlib import Path

import numpy as np
import pytest
from helpers.lists import OBSID, quiet_list, write_list

ROOT = Path(__file__).resolve().parents[1]

ROOMS = (
    *("errors", "sky", "grid", "config", "bayes", "missiontime", "model", "windows", "profiles", "schema"),
    *("io", "events", "pointsource", "backends", "search", "missions", "results", "archives", "report", "pipeline"),
    *("simulate", "api", "bench", "cli", "__main__", "__init__"),
)
"""Modules and packages of xscan from the ground up: each imports from itself and from those before it
(docs/architecture.md)."""

MAY_TOUCH_THE_DISK = {
    *("config", "io", "missions", "results", "archives", "report", "pipeline", "simulate", "bench", "cli"),
    *("backends.cuda", "backends.numba"),  # the kernels' text, the driver, and the folder of compiled code
}
HEAVY = ("cupy", "dask", "distributed", "numba", "numpy", "scipy", "cv2", "pyarrow", "astropy", "requests", "urllib3")


def modules() -> dict[str, ast.Module]:
    package = ROOT / "xscan"
    found = {}
    for path in package.rglob("*.py"):
        name = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text())
    return found


def imported(tree: ast.Module, names: Container[str]) -> set[str]:
    """Modules of xscan that a module imports, by their dotted names below xscan."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "xscan":
            base = (node.module or "").removeprefix("xscan").lstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}".lstrip(".")
                found.add(whole if whole in names else base)
    return found - {""}  # xscan itself: its version


def arrows() -> dict[tuple[str, str], list[str]]:
    """Imports between rooms: importing and imported room, and the modules."""
    trees = modules()
    found: dict[tuple[str, str], list[str]] = {}
    for name, tree in trees.items():
        for other in imported(tree, trees.keys()):
            here, there = name.split(".")[0], other.split(".")[0]
            if here != there:
                found.setdefault((here, there), []).append(f"{name} -> {other}")
    return found


def backwards() -> list[str]:
    """Imports that run from a room to one above it."""
    wrong = (names for (here, there), names in arrows().items() if ROOMS.index(there) > ROOMS.index(here))
    return sorted(name for names in wrong for name in names)


def test_imports_point_downward() -> None:
    assert not backwards()


def test_the_house_stays_small() -> None:
    assert len({name.split(".")[0] for name in modules()}) <= 26
    assert len(arrows()) <= 125


def test_only_the_edge_opens_files() -> None:
    world = {"open", "write_text", "write_bytes", "read_text", "read_bytes", "mkdir", "unlink"}
    for name, tree in modules().items():
        calls = {getattr(n.func, "attr", getattr(n.func, "id", "")) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        within = {".".join(name.split(".")[:depth]) for depth in (1, 2)}
        assert not calls & world or within & MAY_TOUCH_THE_DISK, name


def test_two_modules_know_dask() -> None:
    names = {"dask", "distributed", "dask_cuda"}
    for name, tree in modules().items():
        froms = {(n.module or "").split(".")[0] for n in running(tree) if isinstance(n, ast.ImportFrom)}
        wholes = {a.name.split(".")[0] for n in running(tree) if isinstance(n, ast.Import) for a in n.names}
        assert bool((froms | wholes) & names) == (name in ("pipeline.dask_cluster", "pipeline.dask_pool")), name


def test_benchmarks_and_tests_import_nothing_of_each_other() -> None:
    def imports(path: Path) -> set[str]:
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        froms = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
        return {
            name.split(".")[0] for name in froms | {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        }

    measured, tried = list((ROOT / "benchmarks").glob("*.py")), list((ROOT / "tests").rglob("*.py"))
    for path in measured:
        assert not imports(path) & {"helpers", "soak"}, path
    for path in tried:
        assert not imports(path) & {"benchmarks", *(one.stem for one in measured)}, path


def running(tree: ast.Module) -> list[ast.AST]:
    """What of a module is ever run: not what is there for the type checker."""
    unseen = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and getattr(branch.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    return [node for node in ast.walk(tree) if id(node) not in unseen]


def compiled(node: ast.AST) -> bool:
    """Whether a function is decorated with njit."""
    decorators = getattr(node, "decorator_list", [])
    return any(getattr(getattr(d, "func", d), "id", "") == "njit" for d in decorators)


def test_compiled_code_holds_no_constant_of_another_module() -> None:
    """Numba keeps compiled code until the file it stands in changes: a constant from elsewhere would go stale."""
    found = 0
    for name, tree in modules().items():
        foreign = {alias.asname or alias.name for n in tree.body if isinstance(n, ast.ImportFrom) for alias in n.names}
        for node in tree.body:  # and what is made of them at the top of the module
            if (
                isinstance(node, ast.Assign)
                and {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)} & foreign
            ):
                foreign |= {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        for node in filter(compiled, ast.walk(tree)):
            found += 1
            stale = {n.id for part in node.body for n in ast.walk(part) if isinstance(n, ast.Name)} & (
                foreign - {"Any"}
            )
            assert not stale, f"{name}.{node.name} holds {stale}"
    assert found > 20


@pytest.mark.parametrize("statement", ["import xscan", "import xscan.cli.app"])
def test_imports_stay_light(statement: str) -> None:
    code = f"import sys; {statement}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_scan_needs_neither_gpu_nor_cluster() -> None:
    code = "import sys, xscan; xscan.scan; print([m for m in ('cupy', 'dask', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_scan_loads_only_what_it_uses(tmp_path: Path) -> None:
    """A worker's start is paid for every process: astropy and matplotlib cost more than a short scan."""
    write_list(tmp_path / OBSID, quiet_list(np.random.default_rng(1), "m1", 900.0))
    code = f"""
import sys
from xscan.cli.app import main
sys.argv = ["xscan", "scan", {str(tmp_path / OBSID)!r}, "--out", {str(tmp_path / "out")!r}]
try:
    main()
except SystemExit as end:
    idle = "astropy", "matplotlib", "dask", "cupy", "requests", "xscan.simulate", "xscan.bench"
    print(end.code, [name for name in idle if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_wheel_holds_what_runs(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(tmp_path),
    ]
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    with (source / "kernels" / "voxel.cuh").open("a") as header:
        header.write("// of the copy\n")
    assert kernels_from(source) == "True"  # a bare checkout, before anything is built in it
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {
        "xscan/profiles/default.toml",
        "xscan/profiles/exod2.toml",
        "xscan/profiles/views.toml",
        "xscan/py.typed",
    } <= names
    assert {f"xscan/kernels/{p.name}" for p in (ROOT / "kernels").glob("*.*")} <= names
    assert kernels_from(wheel) == "True"
    assert len(code_digest_from(wheel)) == 16
    assert code_digest_from(wheel) == code_digest_from(source)
    assert {f"xscan/{p.relative_to(ROOT / 'xscan')}" for p in (ROOT / "xscan").rglob("*.py")} <= names
    code = "from xscan.config import load_config; print(load_config('exod2').sigma)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(wheel)!r}); {code}"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == "3.0", done.stderr


def kernels_from(place: Path) -> str:
    """Look into the kernels' text of a folder or wheel."""
    return said_by(
        place, "from xscan.backends.cuda.source import kernel_text; print('// of the copy' in kernel_text())"
    )


def code_digest_from(place: Path) -> str:
    return said_by(place, "from xscan.pipeline.digests import code_digest; print(code_digest())")


def said_by(place: Path, code: str) -> str:
    """Run code with the xscan of a folder or wheel, past this environment's own installation."""
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r}); "
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]; "
    ) + code
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=place.parent)
    return done.stdout.strip() or done.stderr


def main() -> int:
    """Print the rooms from the ground up with the modules in each and what each imports, and what is backwards."""
    trees, found = modules(), arrows()
    for room in ROOMS:
        n = sum(name.split(".")[0] == room for name in trees)
        below = [f"{there} ({len(names)})" for (here, there), names in found.items() if here == room]
        print(f"{room:12} {n:3}  {', '.join(sorted(below, key=lambda text: ROOMS.index(text.split()[0])))}")
    wrong = backwards()
    imports = sum(map(len, found.values()))
    print(f"{len(ROOMS)} rooms, {len(found)} arrows of {imports} imports, {len(wrong)} backwards", *wrong, sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
