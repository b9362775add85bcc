"""Contracts: their reader, those that are shipped, and which one a home goes by."""
