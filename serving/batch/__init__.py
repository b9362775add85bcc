"""Batches: many rows in one request, in four formats."""
