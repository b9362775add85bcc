"""Drives a running server with a load."""

import json
from pathlib import Path
from typing import Any

from pipeline.benchmarks.serving.servers import Running
from processing.errors import RunFailed
from processing.processes import children


def drive(
    target: Running, file: Path, *, prefix: str, callers: int, seconds: float, rate: float | None = None
) -> dict[str, Any]:
    """Send a load and return its results, see `pipeline.benchmarks.serving.load_generator`.

    Raises RunFailed if a request fails.
    """
    load = {"port": target.port, "path": target.server.path, "bodies": str(file), "prefix": prefix, "rate": rate}
    load |= {"callers": callers, "seconds": seconds, "max_requests": target.server.max_requests}
    command = children.module_command("pipeline.benchmarks.serving.load_generator", json.dumps(load))
    done = children.run(command, timeout=seconds + 300, env=children.child_environment())
    if done.returncode:
        raise RunFailed(f"the load generator failed: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout)
    if result["failed"] or not result["latencies_us"]:
        error = result["failed"][0] if result["failed"] else "no request was answered in time"
        raise RunFailed(f"{target.server.name} failed {len(result['failed'])} requests, the first with: {error}")
    return result
