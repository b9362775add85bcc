"""The online store: what the API reads and writes for each decision."""
