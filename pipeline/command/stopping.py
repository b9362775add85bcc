"""Ctrl-C: a command ends with what was and was not done, and exit code 130."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from pipeline.command.entry import INTERRUPTED


@contextmanager
def stoppable(said: str) -> Iterator[None]:
    """Ctrl-C in the `with` block ends the command with what was and was not done."""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print(f"\nstopped. {said}".rstrip(), highlight=False)
        raise typer.Exit(INTERRUPTED) from None
