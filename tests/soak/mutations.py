"""Plant single defects in the method, one after the other, and see whether the tests notice.

    scripts/check mutations [--seed 1] [--n 60] [--out mutations.jsonl] [--work FOLDER] [--room] [--again] [--list]

A defect is one change of the syntax tree of a module that decides results (`xscan.pipeline.digests.DECIDES`): another
comparison, arithmetic operator or constant, `and` for `or`, a `not`, a sign or a `+ 1` dropped, min for max, a
statement deleted. They are drawn at random: a module by its number of lines, then any defect in it. Left out are the
CUDA backend and the kernels, in which tests/backends/test_kernels.py plants defects of its own, and whatever only says
something: docstrings, messages, annotations, assertions.

Each defect is planted in a copy of the working tree, and the tests run there: first the file named after the module,
then those of its room, then the others, until one fails. A defect that nothing noticed survives: a test is missing, or
the code may be written either way. Code that Numba compiled is kept in a folder that starts for every defect as the
tests of the code without one left it; Numba compiles a file anew when it changes.

With --out, what came of each defect is written to a file of JSON lines, and a later run goes on from there: one with
--room first, which takes minutes, leaves few defects for the whole suite, which takes hours on one core.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xscan.pipeline.digests import DECIDES

ROOT = Path(__file__).resolve().parents[2]
SHARED = (ROOT.parent / "shared").resolve()

LEFT_OUT = ("backends/cuda", "errors", "schema")
"""Have a net of their own (the kernels and what launches them), or hold only what people read."""

SUITE = (
    *("tests/search", "tests/events", "tests/pointsource", "tests/missions", "tests/io", "tests/results"),
    *("tests/test_bayes.py", "tests/test_grid.py", "tests/test_config.py", "tests/test_instrument.py"),
    *("tests/test_missiontime.py", "tests/backends", "tests/simulate", "tests/pipeline", "tests/report", "tests/cli"),
)
"""Tests that can see a defect of the method, in this order; those of archives, benchmarks and layout cannot."""

NOT_RUN = (
    *("tests/backends/test_kernels.py", "tests/backends/test_gpu.py"),
    *("tests/pipeline/test_cluster.py", "tests/pipeline/test_limits.py", "tests/pipeline/test_dispatch.py"),
    *("tests/pipeline/test_signals.py", "tests/pipeline/test_plan.py", "tests/cli/test_doctor.py"),
    *("tests/results/test_lock.py", "tests/results/test_spoilt.py", "tests/results/test_carry.py"),
    "tests/results/test_store.py::test_kill_9_costs_nothing",
    "tests/results/test_store.py::test_death_at_any_step_costs_no_finished_observation",
    "tests/results/test_store.py::test_the_large_store_is_measured_on_a_small_one",
    "tests/simulate/test_skies.py::test_the_fuzzer_runs",
    "tests/simulate/test_skies.py::test_a_giant_needs_little_memory",
    "tests/pipeline/test_scan.py::test_a_long_observation_needs_little_memory",
)
"""Of these folders: what plants its own defects, looks for a device, measures memory, or starts processes that run the
same search as the tests of the search do and looks at what becomes of the processes and of the files they leave."""

LIMIT_FACTOR, LIMIT_MORE_S = 5.0, 60.0  # of the time that the tests take without a defect: then they hang


@dataclass(frozen=True, slots=True)
class Defect:
    """One change of one file: what stands from byte ``start`` to byte ``end`` is replaced."""

    path: str
    line: int
    before: str
    after: str
    start: int
    end: int
    text: str

    def planted(self, source: str) -> str:
        """Return the module's text with the defect."""
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {_short(self.before)}  ->  {_short(self.after)}"


def _short(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-25:]}"


# ---------------------------------------------------------------------------------------------------------------------
# what may be changed

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
TWINS = [("min", "max"), ("minimum", "maximum"), ("any", "all"), ("floor", "ceil"), ("argmin", "argmax")]
NAMES = {one: other for pair in TWINS for one, other in (pair, pair[::-1])}
SIDES = {"left": "right", "right": "left"}


def defects(path: str, source: str) -> list[Defect]:
    """Return every single defect that may be planted in a module."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for old, new in _changes(ast.parse(source), []):
        before, after = ast.unparse(old), ast.unparse(new)
        start, end = (
            starts[n - 1] + c for n, c in ((old.lineno, old.col_offset), (old.end_lineno, old.end_col_offset))
        )
        text = f"({after})" if isinstance(new, ast.expr) else after
        if before != after:
            found.append(Defect(path, old.lineno, before, after, start, end, text))
    return found


def _can_be_read(source: str) -> bool:
    try:
        compile(source, "planted", "exec")
    except SyntaxError:
        return False
    return True


def _changes(node: ast.AST, bound: list[str]) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield each node that can be changed, with what takes its place; ``bound`` are names that have a value by then."""
    if _only_says(node):
        return
    if isinstance(node, ast.FunctionDef):
        bound = [argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
    if isinstance(node, ast.expr):
        yield from ((node, new) for new in _expressions(node))
    if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        yield node, _with(node, op=OPERATORS[type(node.op)]())
    if isinstance(node, ast.stmt) and _can_go(node, bound):
        yield node, ast.Pass()
    if isinstance(node, ast.If):
        leaving = [last for last in node.body[-1:] if isinstance(last, ast.Return | ast.Raise)]
        yield from ((last, ast.Pass()) for last in leaving)
    if isinstance(node, ast.Raise):
        return
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list", "type_comment", "pattern"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _changes(child, bound)
    bound += [child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)]


def _only_says(node: ast.AST) -> bool:
    """Whether a node decides nothing: messages, docstrings, imports, assertions, what only the type checker reads."""
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.keyword):
        return node.arg == "strict"  # of zip: an assertion
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or ast.unparse(node).startswith("log.")
    if isinstance(node, ast.If):
        return getattr(node.test, "id", "") == "TYPE_CHECKING"
    return isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets)


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare():
            for k, op in enumerate(node.ops):
                yield _with(node, ops=[*node.ops[:k], COMPARISONS[type(op)](), *node.ops[k + 1 :]])
        case ast.BinOp():
            if type(node.op) in OPERATORS:
                yield _with(node, op=OPERATORS[type(node.op)]())
            if (
                isinstance(node.op, ast.Add | ast.Sub)
                and isinstance(node.right, ast.Constant)
                and node.right.value == 1
            ):
                yield node.left
        case ast.BoolOp():
            yield _with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield ast.Constant(node.value + 1)
        case ast.Constant(value=float()):
            yield ast.Constant(node.value * 1.1 if node.value else 1.0)
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            yield _with(node, func=ast.Name(NAMES[name]))
        case ast.Call(func=ast.Attribute(attr=name)) if name in NAMES:
            yield _with(node, func=_with(node.func, attr=NAMES[name]))
    if isinstance(node, ast.Call):
        for k, keyword in enumerate(node.keywords):
            if keyword.arg == "side" and isinstance(keyword.value, ast.Constant):
                side = ast.keyword("side", ast.Constant(SIDES[keyword.value.value]))
                yield _with(node, keywords=[*node.keywords[:k], side, *node.keywords[k + 1 :]])


def _can_go(node: ast.stmt, bound: list[str]) -> bool:
    """Whether code without a statement still runs: a call, a change of what is there already, the end of a loop."""
    match node:
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Continue() | ast.Break():
            return True
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name in bound
    return False


def _with(node: ast.expr | ast.stmt, **fields: object) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def method() -> dict[str, str]:
    """Return the modules in which defects are planted: their text by path."""
    paths = sorted((ROOT / "xscan").rglob("*.py"))
    named = {path.relative_to(ROOT / "xscan").with_suffix("").as_posix(): path for path in paths}

    def is_of(name: str, rooms: tuple[str, ...]) -> bool:
        return any(name == room or name.startswith(f"{room}/") for room in rooms)

    chosen = [path for name, path in named.items() if is_of(name, DECIDES) and not is_of(name, LEFT_OUT)]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in chosen}


def draw(modules: Mapping[str, str], seed: int, n: int) -> list[Defect]:
    """Draw defects at random, each once: a module by its number of lines, then any defect in it."""
    rng = random.Random(seed)
    possible = {path: found for path, text in modules.items() if (found := defects(path, text))}
    weights = [modules[path].count("\n") for path in possible]
    drawn: list[Defect] = []
    while len(drawn) < n:
        (path,) = rng.choices(list(possible), weights)
        defect = rng.choice(possible[path])
        if defect not in drawn and _can_be_read(defect.planted(modules[path])):
            drawn.append(defect)
    return drawn


# ---------------------------------------------------------------------------------------------------------------------
# whether the tests notice


class Bench:
    """Copies of the working tree: ``now``, as it was at the start, and one in which defects are planted and tested."""

    def __init__(self, work: Path) -> None:
        self.now, self._tree = work / "now", work / "xscan"
        self._cache, self._planted_cache, self._tmp = work / "numba", work / "numba-planted", work / "tmp"
        self._clean_s: dict[str, float] = {}
        self._cache.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.now, ignore_errors=True)
        command = ["git", "ls-files", "-co", "--exclude-standard"]
        for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines():
            if (ROOT / name).is_file():  # git also names what was deleted
                (self.now / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.now / name)
        if SHARED.is_dir() and not (work / "shared").exists():
            (work / "shared").symlink_to(SHARED)

    def verdict(self, defect: Defect, tests: Sequence[str]) -> str:
        """Plant a defect and run tests until one fails; return its name, "" if none does."""
        for unit in tests:
            if unit not in self._clean_s:
                self._clean_s[unit] = self._clean(unit)
            self._renew()
            shutil.rmtree(self._planted_cache, ignore_errors=True)
            shutil.copytree(self._cache, self._planted_cache)
            target = self._tree / defect.path
            target.write_text(defect.planted(target.read_text("utf-8")), "utf-8")
            code, said = self._run(unit, self._planted_cache, LIMIT_FACTOR * self._clean_s[unit] + LIMIT_MORE_S)
            if code is None:
                return f"{unit} (hangs)"
            if code != 0:
                if code == 1 and not failed_test(said):
                    raise SystemExit(f"{unit} cannot be run:\n{said[-3000:]}")
                return failed_test(said) or f"{unit} (ends with {code})"
        return ""

    def _clean(self, unit: str) -> float:
        self._renew()
        begun = time.monotonic()
        code, said = self._run(unit, self._cache, None)
        if code != 0:
            raise SystemExit(f"{unit} fails without a defect:\n{said[-3000:]}")
        if (self._tree / "build").exists():  # kernels, compiled for the CPU: named after their text
            shutil.copytree(self._tree / "build", self.now / "build", dirs_exist_ok=True)
        return time.monotonic() - begun

    def _renew(self) -> None:
        shutil.rmtree(self._tree, ignore_errors=True)
        shutil.copytree(self.now, self._tree)  # with the files' times: Numba knows by them what it compiled

    def _run(self, unit: str, cache: Path, limit_s: float | None) -> tuple[int | None, str]:
        """Run some tests; return the exit status, None for a run that took too long, and what it said."""
        shutil.rmtree(self._tmp, ignore_errors=True)
        self._tmp.mkdir()
        env = os.environ | {"PYTHONPATH": str(self._tree), "NUMBA_CACHE_DIR": str(cache), "TMPDIR": str(self._tmp)}
        skipped = [f"--deselect={name}" for name in NOT_RUN]
        command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-rfE", "--tb=no", *skipped, unit]
        process = subprocess.Popen(
            command, cwd=self._tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, ""
        return process.returncode, said


def near(path: str, root: Path = ROOT) -> list[str]:
    """Return the tests in a tree that are nearest to a module: the file of its name, and those of its room."""
    module = Path(path).relative_to("xscan").with_suffix("")
    named = sorted(test.relative_to(root).as_posix() for test in (root / "tests").rglob(f"test_{module.name}.py"))
    room = f"tests/{module.parts[0]}"
    return [*(name for name in named if name not in NOT_RUN), *([room] if room in SUITE else [])] or [SUITE[0]]


def suite_for(path: str, root: Path = ROOT) -> list[str]:
    """Return the tests in a tree that are run for a module, the nearest first."""
    first = near(path, root)
    return [*first, *(unit for unit in SUITE if unit not in first)]


def failed_test(said: str) -> str:
    """Return the name of the first test that pytest reports as failed; "" if pytest itself came to no end."""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    return found[1] if found else ""


def main() -> int:
    """Plant the defects and print what became of each, and how many survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n", type=int, default=60, help="number of defects")
    parser.add_argument("--out", type=Path, help="JSON lines: what came of each defect; a later run goes on from there")
    parser.add_argument(
        "--work", type=Path, help="folder for the copy and compiled code, kept; by default a temporary one"
    )
    parser.add_argument(
        "--room", action="store_true", help="only the tests of the module's own room: minutes, not hours"
    )
    parser.add_argument("--again", action="store_true", help="try once more those that --out says survived")
    parser.add_argument("--list", action="store_true", help="only print the defects")
    given = parser.parse_args()
    drawn = draw(method(), given.seed, given.n)
    if given.list:
        print(*drawn, sep="\n")
        return 0
    known = read_known(given.out, given.again)
    with tempfile.TemporaryDirectory() as spare:
        bench = Bench((given.work or Path(spare)).resolve())
        survivors = []
        for defect in drawn:
            key = json.dumps(asdict(defect))
            if key not in known:
                begun = time.monotonic()
                known[key] = bench.verdict(defect, (near if given.room else suite_for)(defect.path, bench.now))
                if given.out and (known[key] or not given.room):  # others may notice what its own room does not
                    row = asdict(defect) | {"killed_by": known[key], "took_s": round(time.monotonic() - begun, 1)}
                    with given.out.open("a") as lines:
                        print(json.dumps(row), file=lines)
            print(defect, f"    {'killed by ' + known[key] if known[key] else 'SURVIVES'}", sep="\n", flush=True)
            survivors += [] if known[key] else [defect]
    print(f"\n{len(drawn)} defects of seed {given.seed}: {len(survivors)} survive ({len(survivors) / len(drawn):.0%})")
    print(*survivors, sep="\n")
    return int(bool(survivors))


def read_known(path: Path | None, again: bool) -> dict[str, str]:
    """Read what came of defects in earlier runs; the last line of a defect counts."""
    known = {}
    for line in path.read_text("utf-8").splitlines() if path and path.exists() else []:
        row = json.loads(line)
        killed_by = row.pop("killed_by")
        del row["took_s"]
        known[json.dumps(row)] = killed_by
    return {key: killed_by for key, killed_by in known.items() if killed_by or not again}


if __name__ == "__main__":
    sys.exit(main())
