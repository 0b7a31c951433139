"""scripts/check mutations: the defects that it plants are those it names, and nothing else changes."""

from __future__ import annotations

import ast
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from soak.mutations import NOT_RUN, SUITE, Defect, defects, draw, failed_test, method, near, read_known, suite_for

ROOT = Path(__file__).resolve().parents[1]

SOURCE = '''"""A module: 1 < 2."""

from __future__ import annotations

__all__ = ["half", 1]

LEAST: float = 0.5  # ° no ASCII before what follows, so that bytes are not characters


@decorated(cache=True)
def half(values: Array[1], n: int = 0) -> Array[2]:
    """Return 1 < 2."""
    assert n < 7
    total = min(values) + 1
    if not values or n <= 3:
        raise ValueError(f"{n + 1} < 2")
    total = -total
    values.sort()
    log.info("sorted %d", len(values) + 1)
    for value, _ in zip(values, values, strict=True):
        total += 2 * value
        continue
    return searchsorted(total, n, side="left") is None
'''


def changes() -> set[tuple[str, str]]:
    return {(defect.before, defect.after) for defect in defects("xscan/half.py", SOURCE)}


@pytest.mark.parametrize(("before", "after"), [
    ("0.5", "0.55"),
    ("0", "1"),
    ("min(values)", "max(values)"),
    ("min(values) + 1", "min(values) - 1"),
    ("min(values) + 1", "min(values)"),
    ("1", "2"),
    ("not values or n <= 3", "not values and n <= 3"),
    ("not values", "values"),
    ("n <= 3", "n < 3"),
    ("3", "4"),
    ("raise ValueError(f'{n + 1} < 2')", "pass"),
    ("total = -total", "pass"),
    ("-total", "total"),
    ("values.sort()", "pass"),
    ("total += 2 * value", "total -= 2 * value"),
    ("total += 2 * value", "pass"),
    ("2 * value", "2 / value"),
    ("2", "3"),
    ("continue", "pass"),
    ("searchsorted(total, n, side='left')", "searchsorted(total, n, side='right')"),
    ("searchsorted(total, n, side='left') is None", "searchsorted(total, n, side='left') is not None"),
])  # fmt: skip
def test_a_defect_is_one_change(before: str, after: str) -> None:
    assert (before, after) in changes()


def test_only_what_runs_is_changed() -> None:
    """Nothing in docstrings, annotations, decorators, messages, assertions, nor the first value of a name."""
    assert len(changes()) == 21


def test_a_defect_stands_where_it_says() -> None:
    """The module with it differs in these bytes alone, and in the syntax tree."""
    for defect in defects("xscan/half.py", SOURCE):
        planted = defect.planted(SOURCE)
        assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(SOURCE))
        lines, others = SOURCE.splitlines(), planted.splitlines()
        assert [k for k, (a, b) in enumerate(zip(lines, others, strict=True), start=1) if a != b] == [defect.line]
        assert f"xscan/half.py:{defect.line}  " in str(defect)


def test_defects_are_drawn_at_random_and_the_same_each_time() -> None:
    modules = {name: text for name, text in method().items() if "/search/" in name}
    drawn = draw(modules, 5, 12)
    assert drawn == draw(modules, 5, 12) == draw(modules, 5, 20)[:12]
    assert len(set(drawn)) == 12
    assert drawn != draw(modules, 6, 12)
    for defect in drawn:
        compile(defect.planted(modules[defect.path]), defect.path, "exec")


def test_they_are_planted_in_what_decides_results() -> None:
    paths = method().keys()
    assert {
        "xscan/search/frames.py",
        "xscan/bayes.py",
        "xscan/results/tables.py",
        "xscan/backends/numba/counts.py",
    } <= paths
    assert not any(name in path for path in paths for name in ("cuda", "/plots", "/cli", "/errors", "dask", "simulate"))


def test_the_tests_of_the_room_come_first() -> None:
    assert near("xscan/search/frames.py") == ["tests/search/test_frames.py", "tests/search"]
    assert near("xscan/backends/numba/events.py") == ["tests/events/test_events.py", "tests/backends"]
    assert near("xscan/bayes.py") == ["tests/test_bayes.py"]
    for path in method():
        tests = suite_for(path)
        assert tests[: len(near(path))] == near(path)
        assert set(SUITE) <= set(tests)
        assert len(set(tests)) == len(tests)
    for name in (*SUITE, *NOT_RUN):
        path, _, test = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not test or f"def {test}(" in (ROOT / path).read_text("utf-8"), name


def test_what_killed_a_defect_is_named() -> None:
    said = "...F\n=== short test summary info ===\nFAILED tests/search/test_a.py::test_b[1-x] - assert 1 == 2\n1 failed"
    assert failed_test(said) == "tests/search/test_a.py::test_b[1-x]"
    assert failed_test("Fatal Python error: Segmentation fault") == ""


def test_a_run_goes_on_where_another_was_cut_short(tmp_path: Path) -> None:
    one, two = (Defect("xscan/a.py", line, "1", "2", 3, 4, "(2)") for line in (1, 2))
    rows = [asdict(one) | {"killed_by": "x", "took_s": 1.0}, asdict(two) | {"killed_by": "", "took_s": 1.0}]
    (tmp_path / "out").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    keys = [json.dumps(asdict(defect)) for defect in (one, two)]
    assert read_known(None, False) == read_known(tmp_path / "none", False) == {}
    assert read_known(tmp_path / "out", False) == dict(zip(keys, ("x", ""), strict=True))
    assert read_known(tmp_path / "out", True) == {keys[0]: "x"}  # survivors are tried again
