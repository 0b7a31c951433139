"""Estimate, before a run, what it will take: bytes to fetch, hours, disk and memory (docs/operations.md)."""
