"""A second mission, made up: what searches observations asks the registry, not XMM-Newton by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.command import run
from helpers.lists import OBSID, quiet_list, write_list

import xscan
from xscan.missions import MISSIONS, Files, mission_of, xmm

VIEWS = ("--view", "50:0.2-12", "--backend", "numpy")


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mission whose observation is a folder with a file ``mine``, and reads as one of XMM-Newton's; such a folder."""
    real = write_list(tmp_path / "elsewhere" / OBSID, quiet_list(np.random.default_rng(5), "m1", 600.0))
    folder = tmp_path / OBSID
    folder.mkdir()
    (folder / "mine").write_text("facts")
    mission = SimpleNamespace(
        holds=lambda place: isinstance(place, Path) and (place / "mine").is_file(),
        places=lambda paths, sources=None: list(paths),
        observation_name=lambda place: OBSID,
        files_of=lambda place: [place / "mine"],
        read=lambda place, *settings: xmm.read(real.parent, *settings),
        reading_digest=xmm.reading_digest,
    )
    monkeypatch.setattr("xscan.missions.MISSIONS", {"made up": mission, **MISSIONS})
    return folder


def test_the_mission_is_found_by_the_files(tmp_path: Path, made_up: Path) -> None:
    ours, theirs = mission_of(made_up), tmp_path / "elsewhere" / OBSID
    assert ours.files_of(made_up) == [made_up / "mine"]
    for place in (theirs, next(theirs.iterdir()), Files(OBSID, tuple(theirs.iterdir())), tmp_path / "nowhere"):
        assert mission_of(place) is xmm


def test_another_mission_is_searched_by_the_same_commands(tmp_path: Path, made_up: Path) -> None:
    assert xscan.read(made_up).obsid == OBSID
    assert xscan.scan(xscan.read(made_up), views=["50:0.2-12"]).runs["state"].to_pylist() == ["done"]
    done = run("scan", made_up, "--out", tmp_path / "out", *VIEWS)
    assert done.returncode == 0, done.stderr
    (tmp_path / "list.txt").write_text(OBSID)
    done = run(
        *("archive", "--offline", "--obslist", tmp_path / "list.txt", "--data", tmp_path, "--out", tmp_path / "out"),
        *VIEWS,
    )
    assert done.returncode == 0, done.stderr
    assert xscan.open_results(tmp_path / "out").table("runs")["state"].to_pylist() == ["done"]


def test_what_holds_a_list_of_epic(tmp_path: Path) -> None:
    named = write_list(tmp_path / "named", quiet_list(np.random.default_rng(5), "m1", 60.0))
    other = named.rename(named.parent / "mos1.fits")
    assert xmm.holds(other)
    assert xmm.holds(other.parent)
    (tmp_path / "notes").write_text("no list")
    for place in (tmp_path, tmp_path / "notes", tmp_path / "nowhere", Files(OBSID, (tmp_path / "notes",))):
        assert not xmm.holds(place)
