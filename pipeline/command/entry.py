"""Where the `fraudline` command begins, and the programs that it becomes: Ctrl-C is one line from the first moment on.

    python -m pipeline.command.entry MODULE [ARGUMENTS]

What the programs need takes up to seconds to import, in which Python would answer Ctrl-C with a traceback. So nothing
is imported here that takes time, and all else below `_quietly`.
"""

import signal
import sys
from collections.abc import Callable

INTERRUPTED = 130


def main() -> None:
    """The `fraudline` command."""
    _quietly(_command)


def become(command: list[str], environment: dict[str, str]) -> None:
    """Replace this process by a command that begins here, too. A Ctrl-C in between waits for it."""
    import os

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # stays so until `_quietly`
    os.execve(command[0], command, environment)


def become_module(name: str, *arguments: str, **variables: str) -> None:
    """Replace this process by a module's program; `variables` are added to its environment."""
    from processing.processes import children

    become(children.module_command("pipeline.command.entry", name, *arguments), children.child_environment(**variables))


def _command() -> None:
    from pipeline.command.main import main as command

    command()


def _module() -> None:
    import runpy

    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _quietly(program: Callable[[], None]) -> None:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        program()
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    _quietly(_module)
