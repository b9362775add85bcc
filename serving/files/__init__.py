"""Scoring a file with the serving model."""
