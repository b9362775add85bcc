"""Benchmarks of the scorer, of detection quality on the handbook's data, and of the API and other servers."""
