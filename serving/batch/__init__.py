"""Batches: many rows in one request, in three formats."""
