"""Checks that run for minutes to hours, each started by a script of `scripts`; `pytest` collects none of them."""
