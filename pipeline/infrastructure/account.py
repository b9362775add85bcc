"""What an account must have before the stack is deployed to it for the first time, and what it must offer.

Whoever deploys may have few permissions beyond those needed to deploy. Where AWS refuses an answer, the message says
what to check by hand, or which option to give instead.
"""

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from pipeline.infrastructure.target import Clients
from processing.errors import BadInput, FraudlineError

# Services that act through a service-linked role. They create it at their first use, but often cannot assume it in the
# first seconds, which would fail the deployment.
LINKED_SERVICES = (
    "ecs.amazonaws.com",
    "ecs.application-autoscaling.amazonaws.com",
    "elasticloadbalancing.amazonaws.com",
)
SETTLE_SECONDS = 15.0  # until IAM has made a new role known everywhere
ENDPOINTS = ("ecr.api", "ecr.dkr", "logs", "secretsmanager")  # those of `network`; not every zone has all of them
# Regions where only some zones have Fargate, with the ids of those zones: "Supported Regions for Amazon ECS on AWS
# Fargate" in the developer guide.
FARGATE_ZONES = {
    "ap-northeast-1": ("apne1-az1", "apne1-az2", "apne1-az4"),
    "us-west-1": ("usw1-az1", "usw1-az3"),
}
ZONES = 2


def create_linked_roles(
    clients: Clients, say: Callable[[str], None], settle_seconds: float = SETTLE_SECONDS
) -> list[str]:
    """Create the missing service-linked roles. Returns the services whose role was created."""
    errors: Any = import_module("botocore.exceptions")
    created = []
    for service in LINKED_SERVICES:
        try:
            clients("iam").create_service_linked_role(AWSServiceName=service)
        except errors.ClientError as error:
            refusal = error.response["Error"]
            exists = refusal["Code"] == "EntityAlreadyExists" or "has been taken" in refusal["Message"]
            if not exists:
                say(
                    f"Cannot create the service-linked role of {service} ({refusal['Code']}). If the account has never "
                    f"used that service, create it first: "
                    f"aws iam create-service-linked-role --aws-service-name {service}"
                )
            continue
        created.append(service)
    if created:
        say(f"Created the service-linked roles of {', '.join(created)}")
        time.sleep(settle_seconds)
    return created


def choose_zones(clients: Clients, region: str) -> tuple[str, ...]:
    """Choose two zones of the account that have everything the stack needs in a zone.

    Raises FraudlineError if AWS refuses to list zones, or if there are no two such zones.
    """
    errors: Any = import_module("botocore.exceptions")
    try:
        ec2 = clients("ec2")
        zones = ec2.describe_availability_zones(Filters=[{"Name": "state", "Values": ["available"]}])
        services = ec2.describe_vpc_endpoint_services()["ServiceDetails"]
    except (errors.ClientError, errors.BotoCoreError) as error:
        raise FraudlineError(
            f"cannot list the zones of the account in {region}: {error}. Allow ec2:DescribeAvailabilityZones "
            f"and ec2:DescribeVpcEndpointServices, or name two zones: --zones {region}a,{region}b"
        ) from error
    ids = {
        zone["ZoneName"]: zone["ZoneId"]
        for zone in zones["AvailabilityZones"]
        if zone.get("ZoneType", "availability-zone") == "availability-zone"
        and zone.get("OptInStatus") != "not-opted-in"
    }
    suitable = [name for name, zone_id in sorted(ids.items()) if zone_id in FARGATE_ZONES.get(region, (zone_id,))]
    for endpoint in ENDPOINTS:
        offered = {
            zone
            for service in services
            if service["ServiceName"].endswith(f".{region}.{endpoint}")
            for zone in service.get("AvailabilityZones", [])
        }
        suitable = [name for name in suitable if name in offered]
    if len(suitable) < ZONES:
        counted = f"{', '.join(suitable) or 'none'} of {', '.join(sorted(ids)) or 'none'}"
        raise FraudlineError(
            f"the account has no {ZONES} zones in {region} with Fargate and with endpoints of {', '.join(ENDPOINTS)}, "
            f"but only {counted}; deploy to another region"
        )
    return tuple(suitable[:ZONES])


def check_databases(clients: Clients, names: Sequence[str]) -> None:
    """Raise BadInput if one of the Glue databases exists: a stack that was taken down leaves them behind."""
    for name in names:
        answer = _unless("EntityNotFoundException", clients("glue").get_database, Name=name)
        if answer:
            location = answer["Database"].get("LocationUri", "an unknown location")
            raise BadInput(
                f"the Glue database {name!r}, of {location}, already exists: an earlier stack left it when it was "
                "taken down. Note where its tables' metadata is, then delete it and deploy again "
                "(pipeline/infrastructure/AWS.md, Take it down, explains this and how to restore the tables)"
            )


def check_image(clients: Clients, repository: str, tag: str) -> None:
    """Raise BadInput unless a repository, given by its URI, has an image with that tag."""
    name, images = repository.partition("/")[2], [{"imageTag": tag}]
    describe = clients("ecr").describe_images
    answer = _unless("ImageNotFoundException", describe, repositoryName=name, imageIds=images)
    if not answer or not answer["imageDetails"]:
        raise BadInput(
            f"there is no image {tag!r} in {repository}: push it first (serving/IMAGE.md), or give another --image-tag"
        )


def _unless(code: str, call: Callable[..., Any], **arguments: Any) -> Any:
    """Call AWS; None if it refuses with this error code."""
    errors: Any = import_module("botocore.exceptions")
    try:
        return call(**arguments)
    except errors.ClientError as error:
        if error.response["Error"]["Code"] != code:
            raise
        return None
