"""The function behind the pipeline's Promote step: lets the version that passed the gate serve."""

from functools import partial
from typing import Any

from aws_lambda_powertools import Logger

from pipeline.registry.registry import AlreadyServing, Registry, packed_only
from pipeline.registry.servable import check_manifest
from processing.errors import BadInput
from processing.storage.open import open_home


def handler(event: dict[str, str], context: Any) -> dict[str, str]:
    """Promote `event["version"]` in the home `event["home"]`, on behalf of the pipeline run `event["run"]`.

    `event["manifest"]` is the digest of the manifest that was evaluated, as the run's evaluation.json tells it: no
    other version is promoted, whatever its own files say of a gate. Gives {"promoted": version}. Called again for the
    same version it changes nothing and says the same: a step may be retried. Raises what `Registry.promote` raises,
    which fails the step and with it the run.
    """
    logger = Logger(service="fraudline-promote")
    version, run, manifest = event["version"], event["run"], event.get("manifest")
    if not manifest:
        raise BadInput(
            f"run {run} does not tell which manifest was evaluated; start a new run, it was begun before that"
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
