"""Verify the IAM roles: that each has the permissions that its part needs, and none that it must not have.

IAM itself is asked (SimulatePrincipalPolicy), one resource at a time. Nothing is changed.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any
from urllib.parse import unquote

from pipeline.infrastructure.names import DATABASE, Output, ReactionOutput
from pipeline.infrastructure.verify.role_permissions import (
    ACCOUNT,
    MUST_NOT,
    NEEDS,
    ROLES,
    WRITE_ONCE,
    Permission,
)
from pipeline.infrastructure.verify.system import DeployedSystem
from processing.aws_client import client


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the check's own options."""
    parser.add_argument("--also-trusted", help="ARN of a principal that may assume roles too, as in an emulator")


def check(system: DeployedSystem) -> None:
    """Each role: who may assume it, what it may and may not do, which roles it may pass on."""
    resources = Resources(system)
    for output, service in ROLES.items():
        with system.asking(f"{output} can be read"):
            _check_role(system, resources, output, service)


def _check_role(system: DeployedSystem, resources: "Resources", output: str, service: str) -> None:
    role = system.outputs[output]
    others = [principal for principal in _trusted(role) if principal not in (service, system.options.also_trusted)]
    system.expect(f"{output} can be assumed by {service} only", not others, ", ".join(others))
    denied = [needed for needed in NEEDS[output] if not _allowed(role, *resources.with_arn(needed))]
    system.expect(f"{output} has the permissions that its part needs", not denied, f"denied: {_as_text(denied)}")
    granted = [one for one in [*MUST_NOT[output], *ACCOUNT] if _allowed(role, *resources.with_arn(one))]
    system.expect(f"{output} has none that it must not have", not granted, f"allowed: {_as_text(granted)}")
    # Only the pipeline's role passes roles on: to the jobs that it has SageMaker start.
    jobs = (Output.EVALUATION_ROLE, Output.TRAINING_ROLE) if output == Output.PIPELINE_ROLE else ()
    expected = sorted((system.outputs[job], "sagemaker.amazonaws.com") for job in jobs)
    passed = sorted(_passable(role))
    only = "only its jobs' roles" if jobs else "no role"
    system.expect(f"{output} can pass on {only}", passed == expected, passed)
    if output in WRITE_ONCE:
        kept = f"{resources.bucket}/{WRITE_ONCE[output]}" in _written_once(role)
        system.expect(f"{output} cannot overwrite {WRITE_ONCE[output]}", kept, "no statement denies it")


class Resources:
    """The ARNs of the resources that permissions name."""

    def __init__(self, system: DeployedSystem) -> None:
        outputs, account = system.outputs, system.outputs[Output.PIPELINE_ROLE].split(":")[4]
        region = outputs[Output.KEY_ARN].split(":")[3]
        self.bucket = f"arn:aws:s3:::{outputs[Output.HOME_URL].removeprefix('s3://')}"

        def arn(service: str, name: str) -> str:
            return f"arn:aws:{service}:{region}:{account}:{name}"

        def queue(reaction: str) -> str:
            return arn("sqs", outputs[ReactionOutput.QUEUE_URL.of(reaction)].rpartition("/")[2])

        table = arn("dynamodb", f"table/{outputs[Output.ONLINE_TABLE]}")
        self.arns: dict[str, str] = {
            **{output: outputs[output] for output in ROLES},
            "bucket": self.bucket,
            "key": outputs[Output.KEY_ARN],
            "table": table,
            "index": f"{table}/index/latest",
            "catalog-table": arn("glue", f"table/{DATABASE}/features"),
            "job": arn("glue", f"job/{outputs[Output.GLUE_JOB_NAME]}"),
            "pipeline": arn("sagemaker", f"pipeline/{outputs[Output.PIPELINE_NAME]}"),
            "package": arn("sagemaker", f"model-package/{outputs[Output.MODEL_PACKAGE_GROUP]}/1"),
            "training-job": arn("sagemaker", "training-job/pipelines-a-Train"),
            "promote": arn("lambda", f"function:{outputs[Output.PROMOTE_FUNCTION]}"),
            "features-queue": queue("StartFeatures"),
            "runs-queue": queue("StartRun"),
            "repository": arn("ecr", f"repository/{outputs[Output.REPOSITORY].partition('/')[2]}"),
            "secret": _secret_arn(outputs[Output.API_KEYS_SECRET]),
        }

    def with_arn(self, permission: Permission) -> tuple[str, str]:
        """The action, and the ARN of the resource."""
        action, name = permission
        return action, self.arns.get(name) or f"{self.bucket}/{name}"


def _secret_arn(name: str) -> str:
    """A secret's whole ARN."""
    return str(client("secretsmanager").describe_secret(SecretId=name)["ARN"])


@cache
def _iam() -> Any:
    """One client of IAM for all of its some hundred requests."""
    return client("iam")


def _allowed(role: str, action: str, resource: str) -> bool:
    """Whether IAM allows a role an action on a resource; a write is conditional on the object not existing."""
    condition = {"ContextKeyName": "s3:if-none-match", "ContextKeyValues": ["*"], "ContextKeyType": "string"}
    [result] = _iam().simulate_principal_policy(
        PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource], ContextEntries=[condition]
    )["EvaluationResults"]
    return bool(result["EvalDecision"] == "allowed")


def _passable(role: str) -> list[tuple[str, str]]:
    """The roles that a role may pass on, each with the service it may be passed to ("" for any)."""
    passable = []
    for statement in _statements(role):
        if statement["Effect"] == "Allow" and "iam:PassRole" in _as_list(statement["Action"]):
            service = statement.get("Condition", {}).get("StringEquals", {}).get("iam:PassedToService", "")
            passable += [(resource, service) for resource in _as_list(statement["Resource"])]
    return passable


def _written_once(role: str) -> list[str]:
    """The objects, as ARNs, that a role may write only on the condition that they do not exist."""
    return [
        resource
        for statement in _statements(role)
        if statement["Effect"] == "Deny" and "s3:PutObject" in _as_list(statement["Action"])
        if statement.get("Condition", {}).get("Null") == {"s3:if-none-match": "true"}
        for resource in _as_list(statement["Resource"])
    ]


def _statements(role: str) -> Iterator[dict[str, Any]]:
    """The statements of a role's policies."""
    name = role.rpartition("/")[2]
    for policy in _iam().list_role_policies(RoleName=name)["PolicyNames"]:
        yield from _policy(_iam().get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"])["Statement"]


def _trusted(role: str) -> Iterator[str]:
    """The principals that may assume a role."""
    described = _iam().get_role(RoleName=role.rpartition("/")[2])["Role"]
    for statement in _policy(described["AssumeRolePolicyDocument"])["Statement"]:
        for principals in statement["Principal"].values():
            yield from _as_list(principals)


def _policy(document: Any) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads(unquote(document)) if isinstance(document, str) else document
    return policy


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _as_text(permissions: Iterable[Permission]) -> str:
    return ", ".join(f"{action} on {name}" for action, name in permissions)
