"""A home's model registry, and the keys of its API."""
