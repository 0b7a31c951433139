"""Who may import whom, what an import costs, and what a built package holds."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fake import OBSID, T0, FakeList, write_list

ROOT = Path(__file__).resolve().parents[1]

# from the ground up: a module imports only from its own floor or below (docs/architecture.md)
FLOORS = [
    {"errors", "lossy", "memory", "threads"},
    {"config", "sky", "sizes"},
    {"grid", "bayes", "clean"},
    {"model"},
    {"goodtime", "missiontime", "photons", "psf", "exposure"},
    {"pointfit"},
    {"dropouts"},
    {"backends.arguments", "backends.division"},
    {"backends.device", "backends.cuda_source", "backends.spare"},
    {"backends.cuda_memory", "backends.cupy_"},
    {"backends.nvidia"},
    {"backends", "backends.numpy_", "backends.numba_", "backends.cuda"}
    | {"backends.numba_events", "backends.numba_dropouts", "backends.numba_live", "backends.numba_points"},
    {"smoothing"},
    {"background_exod2"},
    {"subsets", "frames", "background", "detect", "lightcurve", "missions.fitsfile"},
    {"position", "detector", "missions.hotpixels", "missions.xmm_time"},
    {"wings", "moves", "missions.xmm_files", "missions.xmm_goodtime"},
    {"missions.xmm_list"},
    {"missions.xmm"},
    {"search"},
    {"schema"},
    {"tables"},
    {"store.disk", "export", "plots"},
    {"store.lock", "store.manifest", "store.staging", "archives.verify"},
    {"store.about", "store.digest", "store.part"},
    {"store.compaction", "store.carry", "store.reader"},
    {"store.writer"},
    {"store"},
    {"archives.products", "archives.tar", "archives.manners"},
    {"archives.marker", "archives.answer"},
    {"archives.part", "archives.web"},
    {"archives.download"},
    {"archives.folder", "archives.heasarc", "archives.nxsa"},
    {"archives", "archives.fetch", "archives.ahead"},
    {"archives.cache", "archives.account"},
    {"archives.supply"},
    {"fingerprint"},
    {"ledger", "obslist", "scanner", "interrupt"},
    {"summary"},
    {"runner", "pace"},
    {"worker", "dispatch"},
    {"cluster", "pool"},
    {"crew"},
    {"plan", "plan.account", "plan.estimate", "plan.stock"},
    {"plan.calibrate"},
    {"releases", "releases.changes", "releases.difference", "releases.record"},
    {"releases.make"},
    {"simulate.detector", "simulate.fitsbytes", "simulate.sky", "simulate.recovery"},  # nothing below knows of these
    {"simulate.events", "simulate.headers"},
    {"simulate.files"},
    {"simulate.observation"},
    {"simulate"},
    {"api", "report", "progress"},
    {"bench", "bench.record", "bench.machine", "bench.table", "bench.vary"},  # nothing below knows that it is measured
    {"bench.clock", "bench.targets", "doctor"},
    {"bench.stages", "bench.child", "bench.gunzip", "bench.growth", "bench.gpu"},
    {"bench.workloads"},
    {"bench.suite", "bench.summary", "bench.plot"},
    {"bench.page"},
    {"commands"}
    | {f"commands.{name}" for name in ("archive", "bench", "doctor", "fetch", "releases", "results", "simulate")}
    | {"commands.plan"},
    {"cli"},
    {"__main__"},
]
HEAVY = ("cupy", "dask", "distributed", "numba", "numpy", "scipy", "cv2", "pyarrow", "astropy", "requests", "urllib3")
TOUCH_THE_WORLD = {
    "backends.cuda_source",
    "backends.nvidia",
    "backends.spare",
    "missions.fitsfile",
    "missions.xmm",
    "missions.xmm_files",
    "missions.hotpixels",
    "config",
    "fingerprint",
    "memory",
    "releases.record",
    "store.carry",
    "store.disk",
    "store.lock",
    "store.manifest",
    "store.staging",
    "store.compaction",
    "store.part",
    "store.writer",
    "export",
    "obslist",
    "report",
    "commands.archive",
    "commands.bench",
}
TOUCH_THE_WORLD |= {"simulate.files", "simulate.observation", "plots"}
TOUCH_THE_WORLD |= {"archives.answer", "archives.cache", "archives.download", "archives.fetch", "archives.folder"}
TOUCH_THE_WORLD |= {"archives.manners", "archives.marker", "archives.part", "archives.web"}
TOUCH_THE_WORLD |= {"bench.machine", "bench.child", "bench.gunzip", "bench.workloads", "bench.suite"}


def modules() -> dict[str, ast.Module]:
    package = ROOT / "xscan"
    found = {}
    for path in package.rglob("*.py"):
        name = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text())
    return found


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xscan"):
            base = node.module.removeprefix("xscan").lstrip(".") if node.module else ""
            children = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            names |= {base} if base not in ("", "missions") else children
    return names


def test_imports_point_downward() -> None:
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    backwards = []
    for name, tree in modules().items():
        if name in ("__init__", "profiles", "missions"):
            continue
        for other in imported(tree) - {"__version__"}:
            if floor[other] > floor[name]:
                backwards.append(f"{name} imports {other}")
    assert not backwards


def test_only_the_edge_opens_files() -> None:
    world = {"open", "write_text", "write_bytes", "read_text", "read_bytes", "mkdir", "unlink"}
    for name, tree in modules().items():
        calls = {getattr(n.func, "attr", getattr(n.func, "id", "")) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        assert not calls & world or name in TOUCH_THE_WORLD, name


def test_two_modules_know_dask() -> None:
    names = {"dask", "distributed", "dask_cuda"}
    for name, tree in modules().items():
        froms = {(n.module or "").split(".")[0] for n in running(tree) if isinstance(n, ast.ImportFrom)}
        wholes = {a.name.split(".")[0] for n in running(tree) if isinstance(n, ast.Import) for a in n.names}
        assert bool((froms | wholes) & names) == (name in ("cluster", "pool")), name


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


@pytest.mark.parametrize("statement", ["import xscan", "import xscan.cli"])
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
    write_list(tmp_path / OBSID, FakeList(time=np.linspace(T0, T0 + 900, 50)))
    code = f"""
import sys
from xscan.cli import main
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
    assert {"xscan/profiles/default.toml", "xscan/profiles/exod2.toml", "xscan/py.typed"} <= names
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
        place, "from xscan.backends.cuda_source import kernel_text; print('// of the copy' in kernel_text())"
    )


def code_digest_from(place: Path) -> str:
    return said_by(place, "from xscan.fingerprint import code_digest; print(code_digest())")


def said_by(place: Path, code: str) -> str:
    """Run code with the xscan of a folder or wheel, past this environment's own installation."""
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r}); "
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]; "
    ) + code
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=place.parent)
    return done.stdout.strip() or done.stderr
