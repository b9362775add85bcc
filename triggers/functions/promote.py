"""The function behind the pipeline's Promote step: promotes the version that passed the gate."""

from functools import partial
from typing import Any

from aws_lambda_powertools import Logger

from pipeline.registry.registry import AlreadyServing, Registry, packed_only
from pipeline.registry.servable import check_manifest
from processing.errors import BadInput
from processing.storage.open import open_home


def handler(event: dict[str, str], context: Any) -> dict[str, str]:
    """Promote `event["version"]` in the home `event["home"]`, on behalf of the pipeline run `event["run"]`.

    `event["manifest"]` is the digest of the evaluated manifest, from the run's evaluation.json. No other version is
    promoted, whatever its own files say about a gate. Returns {"promoted": version}. A step may be retried: a second
    call for the same version changes nothing and returns the same. Raises whatever `Registry.promote` raises, which
    fails the step and the run.
    """
    logger = Logger(service="fraudline-promote")
    version, run, manifest = event["version"], event["run"], event.get("manifest")
    if not manifest:
        raise BadInput(
            f"run {run} does not record which manifest was evaluated: an earlier version of Fraudline started it; "
            "start a new run"
        )
    registry = Registry(open_home(event["home"]))
    forced_by = registry.metrics(version).get("gate", {}).get("forced_by")
    by = f"{forced_by}, by pipeline run {run}" if forced_by else f"pipeline run {run}"
    reason = f"forced by {forced_by} against the gate" if forced_by else "passed the gate"
    check = partial(check_manifest, packed_only=packed_only())
    try:
        latest = registry.promote(version, by=by, reason=reason, manifest=manifest, check=check)
        version = latest.version
        logger.info("promoted", extra={"version": version, "run": run, "serial": latest.serial})
    except AlreadyServing as error:
        logger.info(str(error), extra={"version": version, "run": run})
    return {"promoted": version}
