"""Profiles: what the online store keeps of each entity's key."""
