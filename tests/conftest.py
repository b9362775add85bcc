"""Fixtures for all tests, such as AWS on this machine, which starts with the first test that uses it."""

import os
import shutil
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from emulator import Emulator, create_online_table, running_emulator
from hypothesis import HealthCheck, settings

from processing.aws_client import client

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The time of an example means nothing on a busy machine.
settings.register_profile("fraudline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fraudline")
LONGEST_FIRST = ("notebooks", "spark", "cloud", "slow")
CHROMIUM = shutil.which("chromium")
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NO_CHROMIUM = "no Chromium: install Debian's package chromium"


def pytest_configure() -> None:
    """Do not ignore Ctrl-C, as a test run in a shell's background does: the commands it starts would ignore it too."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--partitions 200` runs the feature job in as many tasks as AWS Glue does, however few rows there are."""
    parser.addoption("--partitions", type=int, default=2, help="Spark's shuffle partitions in the tests of the job")


@pytest.fixture(scope="session")
def partitions(request: pytest.FixtureRequest) -> int:
    """The number of tasks that the tests split the job's work into."""
    return int(request.config.getoption("--partitions"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is still busy when the others are done.

    The tests of a file stay together, so that their shared fixtures are set up once.
    """
    ranks: dict[Path, int] = {}
    for item in items:
        rank = next((i for i, mark in enumerate(LONGEST_FIRST) if item.get_closest_marker(mark)), len(LONGEST_FIRST))
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip browser tests if there is no Chromium; with FRAUDLINE_NEED_BROWSER, as in CI, fail them."""
    if item.get_closest_marker("browser") and CHROMIUM is None:
        if os.environ.get("FRAUDLINE_NEED_BROWSER"):
            pytest.fail(NO_CHROMIUM, pytrace=False)
        pytest.skip(NO_CHROMIUM)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report in the last lines which tests were skipped and why; nobody reads the dots."""
    skipped = Counter(
        ("browser " if "browser" in report.keywords else "", report.nodeid.split("::")[0], report.longrepr[2])
        for report in terminalreporter.stats.get("skipped", [])
    )
    for (kind, file, message), count in sorted(skipped.items()):
        tests, reason = "test was" if count == 1 else "tests were", message.removeprefix("Skipped: ")
        terminalreporter.write_line(f"{count} {kind}{tests} skipped in {file}: {reason}", yellow=True)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium, for the tests marked `browser`."""
    assert CHROMIUM is not None
    return CHROMIUM


@pytest.fixture(scope="module")
def browser(chromium: str) -> "Iterator[Browser]":
    """A headless Chromium that fetches nothing by itself."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """This session's emulator. Tests use `aws`, which also sets the environment."""
    with running_emulator(tmp_path_factory.mktemp("aws")) as running:
        yield running


@pytest.fixture
def aws(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """AWS for one test, in its environment and that of the processes it starts."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return emulator


@pytest.fixture
def bucket(aws: Emulator) -> str:
    """A new, empty bucket."""
    name = f"fraudline-{uuid.uuid4().hex[:12]}"
    client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": aws.environment["AWS_REGION"]}
    )
    return name


@pytest.fixture
def s3_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    """A function that creates a bucket and returns the address of a home in it."""
    return lambda: f"s3://{request.getfixturevalue('bucket')}/installations/one"


@pytest.fixture
def online_table(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new table for the online store, set in the environment. The emulator's indexes never lag."""
    monkeypatch.setattr("processing.store.dynamo.refresh.STRAY_SECONDS", 0.0)
    name = f"online-{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("FRAUDLINE_ONLINE_TABLE", name)
    create_online_table(name)
    return name
