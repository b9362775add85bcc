"""A home: where an installation keeps all its state, in a folder or in S3."""
