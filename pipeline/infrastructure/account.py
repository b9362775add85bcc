"""What an account must have before the stack can be deployed to it for the first time, and what it has to offer.

Whoever deploys may have few rights beyond those to deploy: where AWS does not answer them, they are told what to look
after, or which variable says what could not be asked.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from processing.errors import BadInput, FraudlineError

# Services act by a role that they make at their first use, and that they often cannot assume in its first seconds.
LINKED = ("ecs.amazonaws.com", "ecs.application-autoscaling.amazonaws.com", "elasticloadbalancing.amazonaws.com")
SETTLE_SECONDS = 15.0  # for IAM to make a new role known everywhere
ENDPOINTS = (
    "ecr.api",
    "ecr.dkr",
    "logs",
    "secretsmanager",
)  # those of `pipeline.infrastructure.api`, which not every zone has
# Regions in which not every zone has Fargate, and the ids of those that have it: "Supported Regions for Amazon ECS on
# AWS Fargate" in the developer guide.
FARGATE = {
    "ap-northeast-1": ("apne1-az1", "apne1-az2", "apne1-az4"),
    "us-west-1": ("usw1-az1", "usw1-az3"),
}
ZONES = 2
DATABASES = ("fraudline", "fraudline_landing")  # of `pipeline.infrastructure.data`, which takes Node to import

Clients = Callable[[str], Any]  # a client of AWS by the service's name


def create_linked_roles(
    clients: Clients, say: Callable[[str], None], settle_seconds: float = SETTLE_SECONDS
) -> list[str]:
    """Create the roles of the services that act for the stack, where they are missing; for which services it was."""
    errors: Any = import_module("botocore.exceptions")
    created = []
    for service in LINKED:
        try:
            clients("iam").create_service_linked_role(AWSServiceName=service)
        except errors.ClientError as error:
            refusal = error.response["Error"]
            there = refusal["Code"] == "EntityAlreadyExists" or "has been taken" in refusal["Message"]
            if not there:
                say(
                    f"Cannot see to the role of {service} ({refusal['Code']}). If the account never used that service, "
                    f"create it first: aws iam create-service-linked-role --aws-service-name {service}"
                )
            continue
        created.append(service)
    if created:
        say(f"Created the role by which each of these acts for you: {', '.join(created)}")
        time.sleep(settle_seconds)
    return created


def choose_zones(clients: Clients, region: str) -> tuple[str, ...]:
    """Two zones of the account in which everything that the stack puts into zones is to be had.

    Raises FraudlineError: AWS does not say, or there are no two.
    """
    errors: Any = import_module("botocore.exceptions")
    try:
        ec2 = clients("ec2")
        answer = ec2.describe_availability_zones(Filters=[{"Name": "state", "Values": ["available"]}])
        offered = ec2.describe_vpc_endpoint_services()["ServiceDetails"]
    except (errors.ClientError, errors.BotoCoreError) as error:
        raise FraudlineError(
            f"AWS does not say which zones the account has in {region}: {error}. Allow ec2:DescribeAvailabilityZones "
            f"and ec2:DescribeVpcEndpointServices, or name two zones: --zones {region}a,{region}b"
        ) from error
    known = {
        zone["ZoneName"]: zone["ZoneId"]
        for zone in answer["AvailabilityZones"]
        if zone.get("ZoneType", "availability-zone") == "availability-zone"
        and zone.get("OptInStatus") != "not-opted-in"
    }
    fit = [name for name, number in sorted(known.items()) if number in FARGATE.get(region, (number,))]
    for endpoint in ENDPOINTS:
        there = {
            zone
            for service in offered
            if service["ServiceName"].endswith(f".{region}.{endpoint}")
            for zone in service.get("AvailabilityZones", [])
        }
        fit = [name for name in fit if name in there]
    if len(fit) < ZONES:
        found = f"{', '.join(fit) or 'none'} of {', '.join(sorted(known)) or 'none'}"
        raise FraudlineError(
            f"the account has no {ZONES} zones in {region} with Fargate and with endpoints of {', '.join(ENDPOINTS)}: "
            f"{found}; deploy to another region"
        )
    return tuple(fit[:ZONES])


def check_databases(clients: Clients, names: Sequence[str]) -> None:
    """Raise BadInput if one of the Glue databases is there, which a stack that was taken down has left."""
    for name in names:
        answer = _unless("EntityNotFoundException", clients("glue").get_database, Name=name)
        if answer:
            where = answer["Database"].get("LocationUri", "a place unknown")
            raise BadInput(
                f"the Glue database {name!r}, of {where}, is there already: a stack "
                "that was taken down has left it. Note where its tables' metadata is, then delete it and deploy again "
                "(pipeline/infrastructure/AWS.md, Take it down, says how, and how the tables come back)"
            )


def check_image(clients: Clients, repository: str, tag: str) -> None:
    """Raise BadInput unless a repository, given by its URI, has an image of that tag."""
    name, wanted = repository.partition("/")[2], [{"imageTag": tag}]
    ask = clients("ecr").describe_images
    answer = _unless("ImageNotFoundException", ask, repositoryName=name, imageIds=wanted)
    if not answer or not answer["imageDetails"]:
        raise BadInput(
            f"there is no image {tag!r} in {repository}: push it first (serving/IMAGE.md), or give --image-tag"
        )


def _unless(missing: str, call: Callable[..., Any], **given: Any) -> Any:
    """What a call to AWS gives; None if it is refused with the code that says there is no such thing."""
    errors: Any = import_module("botocore.exceptions")
    try:
        return call(**given)
    except errors.ClientError as error:
        if error.response["Error"]["Code"] != missing:
            raise
        return None


def desired_tasks(clients: Clients, outputs: Mapping[str, str]) -> int:
    """How many tasks the deployed API is set to; 0 if there is none."""
    if "ServiceName" not in outputs:
        return 0
    answer = clients("ecs").describe_services(cluster=outputs["ClusterName"], services=[outputs["ServiceName"]])
    return sum(int(service["desiredCount"]) for service in answer["services"] if service.get("status") != "INACTIVE")
