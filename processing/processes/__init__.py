"""Processes: children that end with their parent, and leases that outlive neither."""
