"""How the constructs grant permissions, and how they acknowledge the findings of cdk-nag that are right as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import Construct, IConstruct

# Services that pass aws:SourceAccount when they assume a role, with the page or file where AWS shows a trust policy
# that relies on it. For other services, Glue among them, this is not documented (prowler-cloud/prowler#2810): a role
# that required it might never be assumed.
TOOLKIT = "github.com/aws/agent-toolkit-for-aws/tree/main/skills/specialized-skills/serverless-skills"
GUIDE = "docs.aws.amazon.com"
PASSES_ACCOUNT = {
    "ecs-tasks.amazonaws.com": f"{TOOLKIT}/processing-s3-uploads-with-step-functions/scripts/ecs-trust-policy.json",
    "events.amazonaws.com": f"{GUIDE}/eventbridge/latest/userguide/cross-service-confused-deputy-prevention.html",
    "lambda.amazonaws.com": f"{TOOLKIT}/deploying-custom-domain-rest-api/scripts/lambda-trust-policy.json",
    "sagemaker.amazonaws.com": f"{GUIDE}/sagemaker/latest/dg/security-confused-deputy-prevention.html",
}


def service_role(scope: Construct, name: str, service: str, description: str) -> iam.Role:
    """Create a role without permissions that one service may assume.

    Services that pass the account are held to this account. For the others this changes little: only principals of the
    account can pass one of its roles to a service.
    """
    account = {"StringEquals": {"aws:SourceAccount": Stack.of(scope).account}} if service in PASSES_ACCOUNT else None
    return iam.Role(scope, name, assumed_by=iam.ServicePrincipal(service, conditions=account), description=description)


def allow(
    role: iam.Role, actions: Sequence[str], *resources: str, why: str = "", only: Mapping[str, Any] | None = None
) -> None:
    """Allow a role these actions on these resources, under the condition `only` if one is given.

    `why` is required for a resource with a `*` in it: it must say what the wildcard is needed for.
    """
    role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=only))
    for resource in resources:
        text = _as_in_findings(Stack.of(role).resolve(resource))
        if "*" in text:
            acknowledge(role, f"IAM5[Resource::{text}]", why)


def acknowledge(construct: IConstruct, rule: str, reason: str) -> None:
    """Acknowledge a finding of cdk-nag for one resource, and say why it is right as it is."""
    Validations.of(construct).acknowledge(Acknowledgment(id=f"AwsSolutions::AwsSolutions-{rule}", reason=reason))


def _as_in_findings(value: Any) -> str:
    """A template value, written as cdk-nag writes it in its findings."""
    if isinstance(value, str):
        return value
    ((function, arguments),) = value.items()
    if function == "Fn::Join":
        return str(arguments[0]).join(_as_in_findings(part) for part in arguments[1])
    return f"<{arguments}>" if function == "Ref" else f"<{'.'.join(arguments)}>"
