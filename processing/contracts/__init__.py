"""Contracts: their reader, the shipped ones, and the one that a home has."""
