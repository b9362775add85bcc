"""Commands that turn into another program, such as the API: their process is replaced, as by `exec` in a shell."""

import os
import signal

from processing.processes import children


def exec_module(name: str, *arguments: str, **variables: str) -> None:
    """Replace this process by a module's program; `variables` are added to its environment.

    The program starts at `pipeline.command.entry`, which then handles a Ctrl-C pressed in between.
    """
    command = children.module_command("pipeline.command.entry", name, *arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until `run_quietly` unblocks it
    os.execve(command[0], command, children.child_environment(**variables))
