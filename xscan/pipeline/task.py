"""Name an observation to be searched, and find which of a list are left to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from xscan.errors import Reason
from xscan.missions import Files, Place
from xscan.pipeline.digests import inputs_digest, other_files
from xscan.results.ledger import Outcome

__all__ = ["Task", "files_now", "unfinished"]


@dataclass(frozen=True, slots=True)
class Task:
    """One observation to be searched.

    Attributes
    ----------
    obsid : str, optional
        None if only its files say it.
    place : Path or Files
        Its folder or files.
    """

    obsid: str | None
    place: Place

    @property
    def name(self) -> str:
        """Name of the observation before it is read: its obsid, if known, else the name of its folder."""
        return self.obsid or self.place.name or "unnamed"


def files_now(place: Place) -> str:
    """Return the digest of an observation's files; also empty where some of the files that were fetched are missing.

    Examples
    --------
    >>> files_now(folder) == inputs_digest(folder), files_now(scratch)
    (True, '')
    """
    from xscan.archives.marker import is_whole

    return inputs_digest(place) if isinstance(place, Files) or is_whole(place) else ""


def unfinished(
    tasks: Iterable[Task], held: Mapping[str, Outcome], retry_failed: bool = False, again: Collection[str] = ()
) -> tuple[list[Task], list[Outcome]]:
    """Split tasks into those to be searched and those already searched, in whatever state these ended.

    Parameters
    ----------
    tasks : iterable of Task
    held : mapping of str to Outcome
        From :func:`xscan.results.ledger.read_ledger`: the results that the folder has of this configuration.
    retry_failed : bool
        Search again what failed before.
    again : collection of str
        Reasons for which a failed observation is always searched again.

    Returns
    -------
    todo : list of Task
        Tasks without a stored outcome, with changed input files, or without a known obsid; those that lost a GPU
        before come last. Missing files do not count as a change.
    kept : list of Outcome
        The outcomes of the others.

    Examples
    --------
    Of two observations one was searched before, and its files are the same:

    >>> held = {"0990000001": Outcome("0990000001", "done", inputs_digest=inputs_digest(folder))}
    >>> todo, kept = unfinished([Task("0990000001", folder), Task("0990000002", scratch)], held)
    >>> [task.obsid for task in todo], [outcome.obsid for outcome in kept]
    (['0990000002'], ['0990000001'])
    """
    todo: list[Task] = []
    kept: list[Outcome] = []
    for task in tasks:
        before = None if task.obsid is None else held.get(task.obsid)
        failed = before is not None and before.state == "failed" and (retry_failed or before.reason in again)
        if before is None or failed or other_files(before.inputs_digest, files_now(task.place)):
            todo.append(task)
        else:
            kept.append(before)
    lost = {obsid for obsid, before in held.items() if before.reason == Reason.DEVICE_LOST}
    todo.sort(key=lambda task: task.obsid in lost)
    return todo, kept
