from __future__ import annotations

import re
from pathlib import Path

from xscan.config import Rules
from xscan.errors import Reason
from xscan.schema import markdown

ROOT = Path(__file__).resolve().parents[1]


def test_tables_are_as_described() -> None:
    assert (ROOT / "docs" / "tables.md").read_text() == markdown() + "\n", "run scripts/tables-doc"


def test_every_reason_code_and_rule_is_explained() -> None:
    configuration = (ROOT / "docs" / "configuration.md").read_text()
    parity = (ROOT / "docs" / "parity.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", configuration, re.M)) == set(Reason)
    assert set(re.findall(r"^\| `(\w+)` \|", parity, re.M)) == set(Rules.__dataclass_fields__)


def test_the_default_profile_is_shown() -> None:
    shown = (ROOT / "docs" / "configuration.md").read_text()
    assert (ROOT / "xscan" / "profiles" / "default.toml").read_text().split("\n\n", 1)[1].rstrip() in shown


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_placeholder_is_left() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        assert not re.findall(r"^(?:[A-Z]{5,}|TODO.*|TBD.*)$", page.read_text(), re.M), page.name
