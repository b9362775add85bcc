"""The deployed system as the checks see it, and what they find out about it."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.infrastructure.names import Output
from pipeline.registry.registry import Registry
from processing.errors import FraudlineError
from processing.storage.home import Home
from processing.storage.open import open_home

POLL_SECONDS = 2.0


@dataclass(frozen=True)
class CheckResult:
    """A check and its result. found: what was found instead, if it does not hold."""

    check: str
    holds: bool
    found: str


@dataclass
class DeployedSystem:
    """The deployed system. outputs: the stack's; options: the check's own; results: so far."""

    outputs: Mapping[str, str]
    options: argparse.Namespace
    results: list[CheckResult] = field(default_factory=list)

    @cached_property
    def home(self) -> Home:
        """The home in S3."""
        return open_home(self.outputs[Output.HOME_URL])

    @cached_property
    def registry(self) -> Registry:
        """The home's models."""
        return Registry(self.home)

    def expect(self, check: str, holds: object, found: object = "") -> bool:
        """Record what must be true, whether it is, and what was found instead if not. Returns whether it is."""
        self.results.append(CheckResult(check, bool(holds), "" if holds else str(found)))
        return bool(holds)

    @contextmanager
    def asking(self, check: str) -> Iterator[None]:
        """A block that asks AWS. A refusal, or an answer of an unexpected form, is recorded as a check that fails."""
        try:
            yield
        except (ClientError, BotoCoreError, FraudlineError, OSError) as error:
            self.expect(check, False, error)
        except (LookupError, TypeError, ValueError) as error:
            self.expect(check, False, f"unexpected answer: {type(error).__name__}: {error}")

    @property
    def sound(self) -> bool:
        """Whether all checks hold so far."""
        return all(finding.holds for finding in self.results)

    def wait_for(self, result: Callable[[], Any], seconds: float) -> Any:
        """Call a function until it returns something; None after that many seconds."""
        deadline = time.monotonic() + seconds
        while not (value := result()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return value or None
