"""The examples in docstrings run, and print what stands there."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

import xscan
from xscan.api import scan_settings
from xscan.pipeline.scan import scan_folder
from xscan.results.writer import ResultsWriter
from xscan.simulate import simulate_archive

OBSID = "0990000001"
MODULES = (
    *("xscan.bayes", "xscan.config", "xscan.events.gti", "xscan.grid", "xscan.missiontime", "xscan.sky"),
    *(
        "xscan.api",
        "xscan.results.reader",
        "xscan.report.export",
        "xscan.pipeline.units",
        "xscan.missions.xmm.products",
    ),
)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the examples call an observation, results, and results that are open."""
    folder = tmp_path_factory.mktemp("examples")
    simulate_archive(folder / "data", n=1, exposure_s=1000.0, seed=1)
    data, results = folder / "data" / OBSID, folder / "results"
    scanner = scan_settings(views=["50:0.2-12"]).scanner()
    with ResultsWriter(results, scanner.provenance(), scanner.settings.by_name()) as writer:
        writer.write(*scan_folder(data, scanner))
    return {"xscan": xscan, "Path": Path, "folder": data, "results": results, "held": xscan.open_results(results)}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, names: dict[str, Any]) -> None:
    module = importlib.import_module(name)
    tried = doctest.testmod(module, extraglobs=names)
    assert tried.attempted > 0
    assert tried.failed == 0
