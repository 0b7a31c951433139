"""What a run will take, told before it: bytes to fetch, hours, disk and memory (docs/operations.md)."""
