"""Processes: children that end with their parent, the home's lease, and memory."""
