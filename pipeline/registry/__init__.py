"""The model registry of a home, and the keys of its API."""
