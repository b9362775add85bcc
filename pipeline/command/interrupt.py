"""Ctrl-C: a command ends with one line that says what was and was not done, and exit code 130.

The command's entry imports this module before anything else, so it imports nothing that takes time.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from processing.errors import INTERRUPTED


def run_quietly(program: Callable[[], None]) -> None:
    """Run a program. Ctrl-C ends it without a traceback, also one that `exec_module` has held back."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        program()
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        sys.exit(INTERRUPTED)


@contextmanager
def stoppable(message: str) -> Iterator[None]:
    """Ctrl-C in the `with` block ends the command with this message: what was and was not done."""
    try:
        yield
    except KeyboardInterrupt:
        import typer
        from rich.console import Console

        Console(stderr=True).print(f"\nstopped. {message}".rstrip(), highlight=False)
        raise typer.Exit(INTERRUPTED) from None
