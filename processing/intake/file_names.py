"""Which files intake reads, by their names.

Imports nothing: the Lambda function that starts runs uses it too.
"""

SUFFIXES = (".csv", ".csv.gz", ".parquet")


def is_readable(name: str) -> bool:
    """Whether a file's name or key has a known suffix, and no part of it says that it is hidden or still being written.

    Parts that start with '.' or '_' do.
    """
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    return name.lower().endswith(SUFFIXES) and not hidden
