"""Deciding transactions: the serving model, the online store, and what is measured and reported about both."""
