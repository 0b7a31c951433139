"""Decide whether an observation is searched again for a release, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from xscan.pipeline.digests import other_files
from xscan.results.ledger import Outcome

__all__ = ["Change", "Making", "changes", "reasons_for"]


class Change(StrEnum):
    """What differs from the previous release. The value is stored."""

    ADDED = "added"  # not in the previous release
    FILES = "files"  # its files changed
    SETTINGS = "settings"  # configuration or hot-pixel tables
    CODE = "code"  # the part of xscan that decides results
    RETRIED = "retried"  # it failed, and --retry-failed was given: nothing has changed
    WITHDRAWN = "withdrawn"  # not on the list any more


Making = tuple[str, str]
"""Digests of configuration and of code, as in ``runs``."""


def changes(
    obsids: Iterable[str],
    inputs: Mapping[str, str],
    held: Mapping[str, Outcome],
    making: Making,
    retry_failed: bool = False,
) -> dict[str, tuple[Change, ...]]:
    """Return for each observation what changed since the previous release.

    Parameters
    ----------
    obsids : iterable of str
        The list.
    inputs : mapping of str to str
        By obsid, :func:`xscan.pipeline.digests.inputs_digest` of its present files. Missing files (an emptied cache) do
        not count as a change.
    held : mapping of str to Outcome
        The outcomes of the previous release.
    making : Making
        Digests with which observations would be searched now.
    retry_failed : bool
        Search again what failed.

    Returns
    -------
    dict of str to tuple of Change
        By obsid, in the order of the list; withdrawn ones at the end. An empty tuple means that nothing changed, and
        the results of the previous release remain valid.

    Examples
    --------
    The code is another one; the files of the second observation changed too, and the third is not on the list any more:

    >>> held = {obsid: Outcome(obsid, "done", inputs_digest="a", config_digest="c", code_digest="x") for obsid in "123"}
    >>> found = changes(["1", "2"], {"1": "a", "2": "b"}, held, making=("c", "y"))
    >>> {obsid: [str(change) for change in why] for obsid, why in found.items()}
    {'1': ['code'], '2': ['files', 'code'], '3': ['withdrawn']}
    """
    found: dict[str, tuple[Change, ...]] = {}
    for obsid in obsids:
        before = held.get(obsid)
        if before is None:
            found[obsid] = (Change.ADDED,)
            continue
        settings, code = making
        differs = {
            Change.FILES: other_files(before.inputs_digest, inputs[obsid]),
            Change.SETTINGS: before.config_digest != settings,
            Change.CODE: before.code_digest != code,
            Change.RETRIED: retry_failed and before.state == "failed",
        }
        found[obsid] = tuple(change for change, yes in differs.items() if yes)
    return found | {obsid: (Change.WITHDRAWN,) for obsid in held if obsid not in found}


def reasons_for(before: Mapping[str, Outcome], after: Mapping[str, Outcome], making: Making) -> dict[str, str]:
    """Return from the outcomes of two releases why each observation differs between them.

    Parameters
    ----------
    before, after : mapping of str to Outcome
        The outcomes of the previous release and of this one.
    making : Making
        Digests with which this release was searched.

    Returns
    -------
    dict of str to str
        By obsid: values of :class:`Change`, joined by commas; observations that were carried over are left out.

    Examples
    --------
    >>> before = {"1": Outcome("1", "done", config_digest="c", code_digest="x")}
    >>> after = {"1": Outcome("1", "done", config_digest="c", code_digest="y"), "2": Outcome("2", "done")}
    >>> reasons_for(before, after, making=("c", "y"))
    {'1': 'code', '2': 'added'}
    """
    inputs = {obsid: outcome.inputs_digest for obsid, outcome in after.items()}
    why = changes(after, inputs, before, making)
    return {obsid: ", ".join(why[obsid] or (Change.RETRIED,)) for obsid in why if after.get(obsid) != before.get(obsid)}
