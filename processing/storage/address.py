"""What an address of a home or a file names: the one place where an address becomes a path."""

import re
from pathlib import Path
from urllib.parse import unquote

from processing.errors import BadInput

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def local_path(address: str) -> Path:
    """The path that a local address names: a plain path, where `~` is the user's own folder, or a file:// URI.

    This is the one place where an address becomes a path: what a person types is a path, whatever signs are in it,
    unless it begins with a scheme and `//`. Raises BadInput for an address that is not local.
    """
    scheme = SCHEME.match(address)
    if scheme and scheme[1].lower() == "file":
        rest = address[scheme.end() :]
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost") or not slash:
            raise BadInput(f"{address!r} names no folder of this machine; write file:///path, or the plain path")
        return Path("/" + unquote(path))
    if scheme:
        raise BadInput(f"{address!r} is not a local path; give a folder of this machine")
    try:
        return Path(address).expanduser()
    except RuntimeError:
        raise BadInput(f"{address!r} begins with a user's folder that is unknown here; write the whole path") from None
