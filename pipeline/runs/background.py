"""Background processes that work on a home, such as the API and the watcher."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from processing.errors import RunFailed
from processing.processes.children import Child, child_environment, module_command
from processing.storage.local import LocalHome

READY_SECONDS = 60


@contextmanager
def background_process(
    command: list[str], home: LocalHome, log_name: str, variables: dict[str, str] | None = None
) -> Iterator[tuple[Child, Path]]:
    """A process that works on the home and ends with the `with` block. Its output goes to a log file in the home."""
    log = home.path(log_name)
    env = child_environment(FRAUDLINE_HOME=str(home.folder), **(variables or {}))
    with open(log, "wb") as output, Child(command, grace=30, env=env, stdout=output, stderr=output) as process:
        yield process, log


@contextmanager
def background_api(home: LocalHome) -> Iterator[str]:
    """The API in the background; yields its address once it is ready to score. Raises RunFailed if it is not."""
    with background_process(module_command("serving"), home, "serving.log", {"FRAUDLINE_PORT": "0"}) as (process, log):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            address = re.search(r"http://[\d.]+:\d+", log.read_text())
            if address and _ready(address[0]):
                yield address[0]
                return
            time.sleep(0.1)
        raise RunFailed(f"the API did not become ready; its log: {log}")


def _ready(api: str) -> bool:
    try:
        with urlopen(f"{api}/health/ready", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:  # not listening yet, or 503 because no model is loaded
        return False
