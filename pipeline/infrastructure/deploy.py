"""Deploying the stack. Whatever prevents it is explained, with what to do about it."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.infrastructure import account, deployment
from pipeline.infrastructure.aws_errors import call_aws
from pipeline.infrastructure.cdk import Cdk
from pipeline.infrastructure.names import DATABASES, STACK, Output
from pipeline.infrastructure.target import Clients, Target, check_bootstrapped, find_outputs
from pipeline.registry.registry import Registry
from processing.storage.open import open_home

TASKS = 2


def bootstrap(target: Target, *, shown: bool = True) -> None:
    """Prepare the account and region for the CDK, once. Raises FraudlineError."""
    Cdk(target, {}).run("bootstrap", f"aws://{target.account}/{target.region}", shown=shown)


def deploy(
    target: Target,
    *,
    confirm: Callable[[str], bool],
    say: Callable[[str], None] = print,
    image_tag: str | None = None,
    settings: Mapping[str, str] | None = None,
    assembly: Path | None = None,
    shown: bool = True,
) -> dict[str, str]:
    """Show the changes, ask for confirmation, and deploy.

    image_tag: the tag of an image in the stack's repository, to be used from now on
    settings: FRAUDLINE_* variables (see `pipeline.infrastructure.deployment`); settings not given here or in the
        environment stay as they are deployed
    assembly: a folder with what has been synthesized already
    shown: whether to show the CDK's progress

    Returns the stack's outputs, empty if the answer was no. The API gets tasks once there are an image and a model:
    before that it could not become healthy, and CloudFormation would roll the deployment back. From then on the API
    keeps as many tasks as it was scaled to. Raises FraudlineError.
    """
    check_bootstrapped(target)
    before, clients = find_outputs(target), target.clients
    settings = _all_settings(target, settings or {}, before, clients, say)
    if not before:
        call_aws(account.check_databases, clients=clients, names=DATABASES)
    elif image_tag:
        call_aws(account.check_image, clients=clients, repository=before[Output.REPOSITORY], tag=image_tag)
    tasks = TASKS if _has_model(before) else 0
    has_tasks = tasks and call_aws(desired_tasks, clients=clients, outputs=before) > 0
    cdk = Cdk(target, settings, assembly)
    say(cdk.run("diff", STACK, shown=False))
    if not confirm(f"Deploy this to account {target.account} in {target.region}?"):
        return {}
    if not before:
        call_aws(account.create_linked_roles, clients=clients, say=say)
    parameters = [f"ServingTasks={tasks}", f"StartTasks={deployment.LEAVE_TASKS if has_tasks else tasks}"]
    parameters += [f"ImageTag={image_tag}"] if image_tag else []
    words = [word for parameter in parameters for word in ("--parameters", f"{STACK}:{parameter}")]
    cdk.run("deploy", STACK, "--require-approval", "never", *words, shown=shown)
    outputs = find_outputs(target)
    if not tasks:
        say(
            "There is no serving model yet, so the API has no tasks. Build the image and push it to "
            f"{outputs[Output.REPOSITORY]}, deploy it with `--image-tag`, upload transactions to "
            f"{outputs[Output.HOME_URL]}/incoming/, and deploy again once the run has promoted its model"
        )
    return outputs


def _all_settings(
    target: Target,
    settings: Mapping[str, str],
    before: Mapping[str, str],
    clients: Clients,
    say: Callable[[str], None],
) -> dict[str, str]:
    """The settings to deploy with: those given here or in the environment, then those of the deployed stack."""
    names = [deployment.PREFIX + name for name in deployment.NAMES]
    new = {name: os.environ[name] for name in names if os.environ.get(name)} | dict(settings)
    merged = deployment.merged(new, before)
    zones = f"{deployment.PREFIX}ZONES"
    if zones not in merged:  # stacks of earlier versions did not record their zones, but always used these two
        chosen = (
            [f"{target.region}{letter}" for letter in "ab"] if before else account.choose_zones(clients, target.region)
        )
        merged[zones] = ",".join(chosen)
    if unchanged := sorted(f"{name}={value}" for name, value in merged.items() if name not in new and before):
        say(f"Settings unchanged: {' '.join(unchanged)}")
    deployment.from_settings(target.account, target.region, merged)  # reports a wrong setting before Node starts
    return merged


def _has_model(outputs: Mapping[str, str]) -> bool:
    """Whether a model has been promoted in the home of the deployed stack; outputs: the stack's, empty without one."""
    return bool(outputs) and Registry(open_home(outputs[Output.HOME_URL])).latest() is not None


def desired_tasks(clients: Clients, outputs: Mapping[str, str]) -> int:
    """How many tasks the deployed API is set to; 0 if there is no API."""
    if Output.SERVICE_NAME not in outputs:
        return 0
    cluster, service = outputs[Output.CLUSTER_NAME], outputs[Output.SERVICE_NAME]
    services = clients("ecs").describe_services(cluster=cluster, services=[service])["services"]
    return sum(int(service["desiredCount"]) for service in services if service.get("status") != "INACTIVE")
