"""Estimators: the default one, its own transformer, and what any of them says of rows."""
