"""The scorer that serves: a model packed into arrays, its contributions, and their machine code."""
