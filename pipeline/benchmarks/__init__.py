"""Benchmarks: of the scorer, of detection on the handbook, of serving beside its peers."""
