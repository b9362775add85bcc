"""Scoring a whole file."""
