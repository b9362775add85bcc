"""The `fraudline` command: its groups of commands put together. Each command calls the module that does the work."""

import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from pipeline.command import (
    benchmark,
    cloud,
    contract,
    cost,
    data,
    drift,
    home,
    keys,
    models,
    parity,
    run,
    search,
    serving,
)
from pipeline.command.interrupt import stoppable
from processing.errors import FraudlineError

HELP = """A credit-card fraud pipeline: features, training, gate, registry and scoring, on a laptop or on AWS.

Example: fraudline demo
"""


class Interruptible(TyperGroup):
    """A command group in which Ctrl-C always ends with exit code 130, even in commands without their own message."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            with stoppable(""):
                raise


app = typer.Typer(
    cls=Interruptible,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=HELP,
)
GROUPS = {
    "home": home.app,
    "contract": contract.app,
    "models": models.app,
    "keys": keys.app,
    "benchmark": benchmark.app,
}
COMMANDS: tuple[Callable[..., None], ...] = (
    *(run.demo, data.synthesize, run.run, search.search, run.watch),
    *(serving.serve, serving.score, drift.drift, parity.parity),
    *(cloud.deploy, cloud.destroy, cloud.verify, cost.cost),
)
for command in COMMANDS:
    app.command()(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command. An error prints one message; exit codes: 2 for bad input, 1 for a failed run, 130 for Ctrl-C."""
    try:
        app()
    except FraudlineError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
