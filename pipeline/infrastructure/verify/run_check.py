"""Running a check by name, and its report."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.infrastructure.target import deployed_outputs, find_target
from pipeline.infrastructure.verify.system import DeployedSystem
from processing.errors import FraudlineError, report

CHECKS = ("ecs_api", "glue_job", "iam_roles", "lambda_function", "end_to_end")  # the one that takes longest is last
FILE_WIDTH = 2000  # of the report where it is no terminal's: nothing is cut or wrapped


def run_check(name: str, arguments: Sequence[str] = (), outputs: Mapping[str, str] | None = None) -> int:
    """Run one of CHECKS on the deployed system and print its report.

    arguments: the check's own options, and --json
    outputs: those of the stack; without them AWS is asked

    Returns the exit code: 0 if everything is as it must be, 1 if not, or that of an error.
    """
    module = import_module(f"pipeline.infrastructure.verify.{name}")
    options = _options(name, module, arguments)
    try:
        system = DeployedSystem(outputs or deployed_outputs(find_target()), options)
    except FraudlineError as error:
        return report(error)
    try:
        with system.asking("the check can be completed"):
            module.check(system)
    finally:  # also what was found until Ctrl-C
        if options.json:
            print(json.dumps([vars(result) for result in system.results]))
        else:
            _print(str(module.__doc__).splitlines()[0], system)
    return 0 if system.sound else 1


def _options(name: str, module: Any, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(f"verify_{name}.py", description=module.__doc__)
    if hasattr(module, "add_options"):
        module.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for a program to read")
    return parser.parse_args(arguments)


def _print(title: str, system: DeployedSystem) -> None:
    table = Table("", "check", "found", box=None, pad_edge=False, title=title, title_justify="left")
    for result in system.results:
        table.add_row("[green]✓[/]" if result.holds else "[red]✗[/]", result.check, result.found)
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    console.print(table)
    failed = sum(not result.holds for result in system.results)
    console.print(f"{len(system.results)} checks, {failed or 'none'} failed")
