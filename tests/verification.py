"""What the `verify_*.py` scripts share: the deployed system, named checks, and the table of how they went."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table

from pipeline.infrastructure.deploy import deployed, find_target
from pipeline.registry.registry import Registry
from processing.errors import FraudlineError, report
from processing.storage.home import Home
from processing.storage.open import open_home

POLL_SECONDS = 2.0


@dataclass
class System:
    """The deployed system and what is found out about it.

    outputs: the stack's; options: what the script was told; checks: name, whether it holds, what was found
    """

    outputs: dict[str, str]
    options: argparse.Namespace
    checks: list[tuple[str, bool, str]] = field(default_factory=list)

    @cached_property
    def home(self) -> Home:
        """The home in S3."""
        return open_home(self.outputs["HomeUrl"])

    @cached_property
    def registry(self) -> Registry:
        """The home's models."""
        return Registry(self.home)

    def expect(self, name: str, holds: object, found: object = "") -> bool:
        """Note a check: what must be true, whether it is, and what was found instead if not."""
        self.checks.append((name, bool(holds), "" if holds else str(found)))
        return bool(holds)

    @contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """A block that asks AWS: what AWS refuses in it is a check, of that name, that does not hold."""
        try:
            yield
        except (ClientError, BotoCoreError, FraudlineError, OSError) as error:
            self.expect(name, False, error)

    @property
    def sound(self) -> bool:
        """Whether all checks hold until now."""
        return all(holds for _, holds, _ in self.checks)

    def until(self, found: Callable[[], Any], seconds: float) -> Any:
        """What a function gives once it gives something; None after that many seconds."""
        ends = time.monotonic() + seconds
        while not (value := found()) and time.monotonic() < ends:
            time.sleep(POLL_SECONDS)
        return value or None


def verify(title: str, checks: Callable[[System], None], parser: argparse.ArgumentParser | None = None) -> int:
    """Run the checks on the deployed system, print them; the exit code, 1 if one does not hold."""
    parser = parser or argparse.ArgumentParser()
    parser.description = title
    parser.add_argument("--json", action="store_true", help="print JSON for a program to read")
    options = parser.parse_args()
    try:
        system = System(deployed(find_target()), options)
    except FraudlineError as error:
        return report(error)
    with system.asking("it can be looked at to the end"):
        checks(system)
    if options.json:
        print(json.dumps([dict(zip(("check", "holds", "found"), check, strict=True)) for check in system.checks]))
    else:
        _print(title, system)
    return 0 if system.sound else 1


def _print(title: str, system: System) -> None:
    table = Table("", "check", "found", box=None, pad_edge=False, title=title.splitlines()[0], title_justify="left")
    for name, holds, found in system.checks:
        table.add_row("[green]✓[/]" if holds else "[red]✗[/]", name, found)
    console = Console(width=None if sys.stdout.isatty() else 2000)  # in a file nothing is cut or folded
    console.print(table)
    failed = sum(not holds for _, holds, _ in system.checks)
    console.print(f"{len(system.checks)} checks, {failed or 'none'} failed")
