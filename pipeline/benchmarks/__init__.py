"""Benchmarks of the scorer, of detection quality on the handbook's data, and of serving beside other servers."""
