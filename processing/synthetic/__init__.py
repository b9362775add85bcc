"""Synthetic transactions: a population with its habits, and frauds."""
