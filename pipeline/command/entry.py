"""Entry point of the `fraudline` command and of the programs it turns into. Ctrl-C prints one line from the start.

    python -m pipeline.command.entry MODULE [ARGUMENTS]

The programs' imports take up to seconds, during which Python would answer Ctrl-C with a traceback. So this module
imports nothing slow; everything else is imported under `run_quietly`.
"""

import sys

from pipeline.command.interrupt import run_quietly


def main() -> None:
    """Run the `fraudline` command."""
    run_quietly(_command)


def _command() -> None:
    from pipeline.command.main import main as command

    command()


def _module() -> None:
    import runpy

    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run_quietly(_module)
