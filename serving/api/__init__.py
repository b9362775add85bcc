"""What all routes share: requests and responses, errors, keys, limits, connections."""
