"""Taking the stack down. What holds data stays."""

from collections.abc import Callable
from pathlib import Path

from pipeline.infrastructure.aws_errors import call_aws
from pipeline.infrastructure.cdk import Cdk
from pipeline.infrastructure.names import DATABASES, STACK, Output
from pipeline.infrastructure.target import Target, deployed_outputs


def destroy(
    target: Target,
    *,
    confirm: Callable[[str], bool],
    say: Callable[[str], None] = print,
    assembly: Path | None = None,
    shown: bool = True,
) -> bool:
    """List what stays, ask for confirmation, and take the stack down. Returns whether it was taken down.

    `assembly`, `shown`: as for `deploy`. Raises FraudlineError.
    """
    outputs = deployed_outputs(target)
    kept = (
        outputs[Output.HOME_URL],
        f"s3://{outputs[Output.LOGS_BUCKET]}",
        f"the table {outputs[Output.ONLINE_TABLE]}",
        outputs[Output.KEY_ARN],
        f"the Glue databases {' and '.join(DATABASES)}",
    )
    say(
        f"What holds data stays, and is charged for, until you delete it: {', '.join(kept)}. "
        "Everything else is deleted."
    )
    if not confirm(f"Delete the stack {STACK} in account {target.account}, {target.region}?"):
        return False
    _empty_group(outputs[Output.MODEL_PACKAGE_GROUP], target)
    Cdk(target, {}, assembly).run("destroy", STACK, "--force", shown=shown)
    return True


def _empty_group(group: str, target: Target) -> None:
    """Delete a group's model packages: only an empty group can be deleted. The models stay in the home."""
    client = target.clients("sagemaker")

    def delete() -> None:
        for page in client.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group):
            for package in page["ModelPackageSummaryList"]:
                client.delete_model_package(ModelPackageName=package["ModelPackageArn"])

    call_aws(delete)
