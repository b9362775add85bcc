"""A home: where all state of one installation lies, in a folder or in S3."""
