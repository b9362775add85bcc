"""The function that promotes a model once it is approved in SageMaker Studio."""

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
from triggers.functions.function_settings import read_settings
from triggers.functions.sagemaker_runs import ModelPackages


@dataclass(frozen=True)
class ApproveSettings:
    """home: the address of the home."""

    home: str


def handler(event: dict[str, Any], context: Any) -> Any:
    """Promote the version of each approved package; returns the messages that failed, in the form that SQS expects."""
    logger = Logger(service="fraudline-approve")
    registry, packages = Registry(open_home(read_settings(ApproveSettings).home)), ModelPackages()

    def process(record: SQSRecord) -> None:
        approval = json.loads(record.body)
        package = approval["detail"]["ModelPackageArn"]
        logger.info(approve(approval, registry, packages), extra={"package": package})

    return process_partial_response(event, process, BatchProcessor(EventType.SQS), context)


def approve(event: Mapping[str, Any], registry: Registry, packages: ModelPackages) -> str:
    """Promote the version of an approved package, given the event; returns what was done, for the log.

    Events arrive twice, late and out of order, so an approval does not undo a promotion that is newer. The manifest's
    digest ensures that the promoted version is the one that was evaluated. Raises BadInput for a package without that
    digest and for a version that did not pass the gate, and whatever `Registry.promote` raises.
    """
    arn = event["detail"]["ModelPackageArn"]
    package = packages.describe(arn)
    if package.version is None:
        return "the package names no version of this registry"
    if not package.approved:
        return "the package is no longer approved"
    if package.manifest is None:
        raise BadInput(
            f"{arn} does not record which manifest was evaluated, as older packages do not; if you trust it, "
            f"`fraudline models promote {package.version}` promotes it"
        )
    latest = registry.latest()
    # An event's time has whole seconds.
    if latest and datetime.fromisoformat(event["time"]) < datetime.fromisoformat(latest.promoted_at).replace(
        microsecond=0
    ):
        return f"{latest.version} was promoted after this approval and is still serving"
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
