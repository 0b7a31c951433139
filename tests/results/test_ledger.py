from __future__ import annotations

import pyarrow as pa
import pytest

from xscan.errors import Reason
from xscan.results.ledger import Outcome, account, outcomes
from xscan.results.tables import Provenance, failed_tables
from xscan.schema import RUNS

PROVENANCE = Provenance("0.1.0", "default", "0123456789abcdef", "code", "numpy", "feed")


def rows(obsid: str, *states: str) -> pa.Table:
    """A view for each state, of 2 s and 3 regions each, read in 1 s."""
    table = failed_tables(obsid, "failed", Reason.ERROR, "", PROVENANCE, 1.0).runs
    (row,) = table.to_pylist()
    views = [
        row
        | {"state": state, "reason": None if state == "done" else f"why_{state}", "n_regions": 3, "seconds_spent": 2.0}
        for state in states
    ]
    return pa.Table.from_pylist(views, RUNS)


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["done"], "done"),
        (["empty", "skipped", "done", "empty"], "done"),
        (["done", "failed"], "failed"),
        (["skipped", "empty"], "empty"),
        (["skipped"], "skipped"),
    ],
)
def test_an_observation_has_one_state(states: list[str], state: str) -> None:
    (outcome,) = outcomes(rows("0000000001", *states)).values()
    assert (outcome.state, outcome.reason) == (state, "" if state == "done" else f"why_{state}")
    assert outcome.n_regions == 3 * len(states)
    assert outcome.seconds == 1.0 + 2.0 * len(states)
    assert (outcome.xscan_version, outcome.backend) == ("0.1.0", "numpy")
    assert (outcome.inputs_digest, outcome.config_digest, outcome.code_digest) == ("feed", "0123456789abcdef", "code")


def test_every_observation_of_a_list_is_accounted_for() -> None:
    held = outcomes(pa.concat_tables([rows("0000000001", "done"), rows("0000000002", "empty", "skipped")]))
    listed = account(["0000000003", "0000000002"], held)
    assert listed == [Outcome("0000000003", "pending"), held["0000000002"]]


def test_a_message_with_a_path_that_is_no_text_goes_on_record() -> None:
    table = failed_tables("0000000001", "failed", Reason.ERROR, "data\udcff/0000000001: gone", PROVENANCE, 1.0).runs
    assert table["message"].to_pylist() == ["data?/0000000001: gone"]
