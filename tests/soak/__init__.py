"""Checks that run for minutes to hours, each a script of its own: `pytest` does not collect them."""
