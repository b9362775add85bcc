"""Synthetic transactions: a population, its habits, and the frauds among them."""
