"""The Iceberg tables of a home."""
