"""The function that promotes a model which was approved in SageMaker Studio."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from pipeline.registry.registry import AlreadyServing, Registry, packed_only
from pipeline.registry.servable import check_manifest
from processing.errors import BadInput
from processing.storage.open import open_home
from triggers.functions.sagemaker_runs import ModelPackages
from triggers.functions.settings import read_settings


@dataclass(frozen=True)
class Settings:
    """home: the address of the home."""

    home: str


def handler(event: dict[str, Any], context: Any) -> Any:
    """Promote the version behind each approved package; returns the messages that failed, as SQS wants it."""
    logger = Logger(service="fraudline-approve")
    registry, packages = Registry(open_home(read_settings(Settings).home)), ModelPackages()

    def take(record: SQSRecord) -> None:
        approved = json.loads(record.body)
        package = approved["detail"]["ModelPackageArn"]
        logger.info(approve(approved, registry, packages), extra={"package": package})

    return process_partial_response(event, take, BatchProcessor(EventType.SQS), context)


def approve(event: Mapping[str, Any], registry: Registry, packages: ModelPackages) -> str:
    """Promote the version of an approved package, given the event; what was done, in words.

    An approval is older than a promotion that came after it, and then stands back: events come twice, late and out
    of order. What is promoted is the version that was evaluated, by its manifest's digest. Raises BadInput for a
    package without that digest or a version that did not pass the gate, and what else `Registry.promote` raises.
    """
    arn = event["detail"]["ModelPackageArn"]
    package = packages.describe(arn)
    if package.version is None:
        return "the package names no version of this registry"
    if not package.approved:
        return "the package is not approved any more"
    if package.manifest is None:
        raise BadInput(
            f"{arn} was registered before packages told which manifest was evaluated; if you trust the version, "
            f"`fraudline models promote {package.version}` promotes it"
        )
    latest = registry.latest()
    # An event tells its time in whole seconds.
    if latest and datetime.fromisoformat(event["time"]) < datetime.fromisoformat(latest.promoted_at).replace(
        microsecond=0
    ):
        return f"{latest.version} was promoted after this approval and goes on serving"
    try:
        promoted = registry.promote(
            package.version,
            by=f"approval of {arn}",
            reason="approved in the model registry",
            manifest=package.manifest,
            approved=True,
            check=partial(check_manifest, packed_only=packed_only()),
        )
    except AlreadyServing as error:
        return str(error)
    return f"promoted {promoted.version}"
