"""Deciding a transaction: the model that serves, the store, and what is told of both."""
