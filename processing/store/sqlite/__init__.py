"""The online store in a SQLite file."""
