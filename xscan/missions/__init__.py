"""Read the files of an observatory into an :class:`~xscan.model.Observation`; one package for each mission.

Contract: everything that knows a mission's file names, headers and keywords is here; the rest of xscan sees only the
Observation. A file that cannot be used is returned with a reason, and does not stop the others. ``archives``,
``pipeline``, ``api``, ``bench``, ``cli`` and what makes up skies may import it; loops over events are called
through :class:`xscan.backends.EventLoops`.
"""
