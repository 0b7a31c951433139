from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PARITY = Path(__file__).resolve().parents[2] / "benchmarks" / "parity.py"
RUN = "0900000101_0_50_0.2_12.0"


def parity(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PARITY), *map(str, args)], capture_output=True, text=True)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_identical_to_exod2(golden: Path, hotpix: Path, backend: str) -> None:
    done = parity(golden, "--hotpix", hotpix, "--backend", backend)
    assert done.stdout.splitlines()[-1] == "18 of 18 runs identical", done.stdout
    assert done.returncode == 0


def test_a_difference_is_named(golden: Path, hotpix: Path, tmp_path: Path) -> None:
    """The comparison itself can fail: one count more, one template cell off by 4e-6, one position moved."""
    source = golden / "0900000101"
    target = tmp_path / "elsewhere" / "0900000101"
    shutil.copytree(source / "inputs", target / "inputs")
    shutil.copytree(source / RUN, target / RUN, copy_function=shutil.copy)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert parity(tmp_path / "elsewhere", "--hotpix", hotpix).returncode == 0
    with np.load(target / RUN / "intermediates.npz") as arrays:
        changed = {name: arrays[name].copy() for name in arrays.files}
    changed["n_val"][100] += 1
    template = changed["bg0_template"]
    template[np.unravel_index(np.nanargmax(template), template.shape)] *= 1 + 4e-6
    changed["peak_idx"] = changed["peak_idx"][1:]
    np.savez(target / RUN / "intermediates.npz", **changed)
    regions = target / RUN / "regions.csv"
    regions.write_text(regions.read_text().replace(",2.06712661", ",2.06712693"))
    done = parity(tmp_path / "elsewhere", "--hotpix", hotpix)
    assert done.returncode == 1
    changed["gti_bin_idx"] = changed["gti_bin_idx"][:-1]
    np.savez(target / RUN / "intermediates.npz", **changed)
    (target / "0900000101_0_5_0.2_12.0").mkdir()  # a run without intermediates is no identical run
    done = parity(tmp_path / "elsewhere", "--hotpix", hotpix)
    for stage in ("counts:", "frames:", "intermediates:", "templates:", "voxels:", "regions:"):
        assert f"    {stage}" in done.stdout, done.stdout
    assert done.stdout.splitlines()[-1] == "0 of 2 runs identical"


def test_a_folder_without_runs(tmp_path: Path) -> None:
    done = parity(tmp_path)
    assert done.returncode == 2
    assert "no <obsid>/<obsid>_<subset>" in done.stderr
