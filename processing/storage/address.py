"""Local addresses: the one place where an address becomes a path."""

import re
from pathlib import Path
from urllib.parse import unquote

from processing.errors import BadInput

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def local_path(address: str) -> Path:
    """The path of a local address: a plain path, where `~` is the user's own folder, or a file:// URI.

    What a person types is a path, whatever characters are in it, unless it starts with a scheme and `//`. Raises
    BadInput for an address that is not local.
    """
    scheme = SCHEME.match(address)
    if scheme and scheme[1].lower() == "file":
        rest = address[scheme.end() :]
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost") or not slash:
            raise BadInput(f"{address!r} names no folder on this machine; write file:///path, or the plain path")
        return Path("/" + unquote(path))
    if scheme:
        raise BadInput(f"{address!r} is not a local path; give a folder on this machine")
    try:
        return Path(address).expanduser()
    except RuntimeError:
        raise BadInput(f"{address!r} starts with an unknown user's folder; write the whole path") from None
