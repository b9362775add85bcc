"""Verify the IAM roles: each has what its part needs, and not what it must not have.

    python tests/verify_iam_roles.py

IAM itself is asked (SimulatePrincipalPolicy), one resource at a time; nothing is changed.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import unquote

from verification import System, verify

from processing.aws_client import client

ROLES = {  # output -> the service that may assume it
    "FeatureJobRole": "glue.amazonaws.com",
    "TrainingRole": "sagemaker.amazonaws.com",
    "EvaluationRole": "sagemaker.amazonaws.com",
    "PipelineRole": "sagemaker.amazonaws.com",
    "ApiTaskRole": "ecs-tasks.amazonaws.com",
    "ApiExecutionRole": "ecs-tasks.amazonaws.com",
    "PromoteRole": "lambda.amazonaws.com",
    "StartRunRole": "lambda.amazonaws.com",
    "StartFeaturesRole": "lambda.amazonaws.com",
    "FinishFeaturesRole": "lambda.amazonaws.com",
    "ApproveRole": "lambda.amazonaws.com",
    "ModelAgeRole": "lambda.amazonaws.com",
    "DriftRole": "ecs-tasks.amazonaws.com",
}
# Action, and resource: one of those that `Resources` names.
NEEDS = {
    "FeatureJobRole": [
        ("s3:GetObject", "incoming/a.csv"),
        ("s3:DeleteObject", "incoming/a.csv"),
        ("s3:PutObject", "archive/a.csv"),
        ("s3:ListBucketMultipartUploads", "bucket"),
        ("s3:PutObject", "warehouse/features/data/a.parquet"),
        ("s3:PutObject", "runs/r/train/a.parquet"),
        ("s3:PutObject", "runs/r/earlier/d/a.parquet"),
        ("s3:GetObject", "models/latest.json"),
        ("s3:GetObject", "models/v/manifest.json"),
        ("dynamodb:UpdateItem", "table"),
        ("dynamodb:Query", "index"),
        ("kms:GenerateDataKey", "key"),
        ("glue:UpdateTable", "catalog-table"),
    ],
    "TrainingRole": [
        ("s3:GetObject", "runs/r/train/a.parquet"),
        ("s3:PutObject", "runs/r/train-output/a/output/model.tar.gz"),
        ("kms:Encrypt", "key"),
        ("kms:GenerateDataKey", "key"),
    ],
    "EvaluationRole": [
        ("s3:GetObject", "runs/r/train-output/a/output/model.tar.gz"),
        ("s3:GetObject", "models/latest.json"),
        ("s3:PutObject", "runs/r/evaluation/evaluation.json"),
        ("s3:PutObject", "models/v/manifest.json"),
        ("kms:Encrypt", "key"),
        ("kms:GenerateDataKey", "key"),
    ],
    "PipelineRole": [
        ("sqs:SendMessage", "features-queue"),
        ("lambda:InvokeFunction", "promote"),
        ("sagemaker:CreateTrainingJob", "training-job"),
        ("sagemaker:CreateModelPackage", "package"),
        ("s3:GetObject", "runs/r/evaluation/evaluation.json"),
    ],
    "ApiTaskRole": [
        ("s3:GetObject", "models/latest.json"),
        ("s3:GetObject", "models/v/scorer.npz"),
        ("dynamodb:UpdateItem", "table"),
        ("dynamodb:Query", "index"),
        ("kms:Decrypt", "key"),
    ],
    "ApiExecutionRole": [("secretsmanager:GetSecretValue", "secret"), ("ecr:BatchGetImage", "repository")],
    "PromoteRole": [
        ("s3:GetObject", "models/v/manifest.json"),
        ("s3:GetObject", "contract.toml"),
        ("s3:PutObject", "models/latest.json"),
        ("s3:PutObject", "models/history/00000001.json"),
    ],
    "StartRunRole": [("sagemaker:StartPipelineExecution", "pipeline"), ("sqs:ReceiveMessage", "runs-queue")],
    "StartFeaturesRole": [("glue:StartJobRun", "job"), ("sagemaker:SendPipelineExecutionStepFailure", "pipeline")],
    "FinishFeaturesRole": [
        ("glue:GetJobRun", "job"),
        ("s3:GetObject", "runs/r/features.json"),
        ("sagemaker:SendPipelineExecutionStepSuccess", "pipeline"),
    ],
    "ApproveRole": [
        ("sagemaker:DescribeModelPackage", "package"),
        ("s3:GetObject", "contract.toml"),
        ("s3:PutObject", "models/latest.json"),
        ("s3:PutObject", "models/history/00000001.json"),
    ],
    "ModelAgeRole": [("s3:GetObject", "models/latest.json")],
    "DriftRole": [("s3:GetObject", "models/v/reference.json"), ("dynamodb:Query", "index")],
}
RAW = [(action, key) for action in ("s3:GetObject", "s3:PutObject") for key in ("incoming/a.csv", "archive/a.csv")]
TABLES = [("s3:GetObject", "warehouse/transactions/data/a.parquet")]
LATEST = [
    (f"s3:{verb}Object", key)
    for verb in ("Put", "Delete")
    for key in ("models/latest.json", "models/history/00000001.json")
]
VERDICT = [("s3:PutObject", "runs/r/evaluation/evaluation.json")]
ONCE = {  # what a role may write only where nothing is yet
    "EvaluationRole": "models/*",
    "PromoteRole": "models/history/*",
    "ApproveRole": "models/history/*",
}
MODELS = [("s3:PutObject", "models/v/model.joblib"), ("s3:DeleteObject", "models/v/model.joblib")]
ACCOUNT = [("iam:PutRolePolicy", "ApiTaskRole"), ("s3:DeleteBucket", "bucket"), ("kms:ScheduleKeyDeletion", "key")]
MUST_NOT = {
    "FeatureJobRole": [*MODELS, *LATEST, ("s3:GetObject", "models/v/model.joblib"), ("glue:StartJobRun", "job")],
    "TrainingRole": [*RAW, *TABLES, *LATEST, *MODELS, *VERDICT, ("s3:GetObject", "runs/r/test/a.parquet")],
    "EvaluationRole": [*RAW, *TABLES, *LATEST, MODELS[1], ("dynamodb:GetItem", "table")],
    "PipelineRole": [*RAW, *TABLES, *LATEST, *MODELS, *VERDICT, ("dynamodb:GetItem", "table")],
    "ApiTaskRole": [*RAW, *TABLES, *LATEST, *MODELS, ("secretsmanager:GetSecretValue", "secret")],
    "ApiExecutionRole": [*RAW, *TABLES, *LATEST, *MODELS, ("dynamodb:GetItem", "table")],
    "PromoteRole": [*RAW, *TABLES, *MODELS, ("sagemaker:StartPipelineExecution", "pipeline")],
    "StartRunRole": [*RAW, *TABLES, *LATEST, *MODELS, ("glue:StartJobRun", "job")],
    "StartFeaturesRole": [*RAW, *TABLES, *LATEST, *MODELS, ("sagemaker:StartPipelineExecution", "pipeline")],
    "FinishFeaturesRole": [*RAW, *TABLES, *LATEST, *MODELS, ("glue:StartJobRun", "job")],
    "ApproveRole": [*RAW, *TABLES, *MODELS, ("sagemaker:CreateModelPackage", "package")],
    "ModelAgeRole": [*RAW, *TABLES, *LATEST, *MODELS],
    "DriftRole": [*RAW, *TABLES, *LATEST, *MODELS, ("dynamodb:UpdateItem", "table")],
}


def checks(system: System) -> None:
    """One check for each role and what it is held against."""
    resources = Resources(system)
    for output, service in ROLES.items():
        role = system.outputs[output]
        with system.asking(f"{output} can be looked at"):
            others = [who for who in trusted(role) if who not in (service, system.options.also_trusted)]
            system.expect(f"{output} is assumed by {service} alone", not others, ", ".join(others))
            denied = [each for each in NEEDS[output] if not allowed(role, *resources.named(each))]
            system.expect(f"{output} has what its part needs", not denied, f"denied: {written(denied)}")
            granted = [each for each in [*MUST_NOT[output], *ACCOUNT] if allowed(role, *resources.named(each))]
            system.expect(f"{output} has nothing that it must not have", not granted, f"allowed: {written(granted)}")
            # One role hands another on: the pipeline's, to the jobs that it has SageMaker start.
            jobs = ("EvaluationRole", "TrainingRole") if output == "PipelineRole" else ()
            expected = [(system.outputs[job], "sagemaker.amazonaws.com") for job in jobs]
            passed = sorted(passable(role))
            system.expect(f"{output} passes on no role but what it must", passed == sorted(expected), passed)
            if output in ONCE:
                kept = f"{resources.bucket}/{ONCE[output]}" in written_once(role)
                system.expect(f"{output} writes over nothing in {ONCE[output]}", kept, "no statement denies it")


class Resources:
    """The ARNs behind the names above; a name with a slash is a key of the bucket."""

    def __init__(self, system: System) -> None:
        given, account = system.outputs, system.outputs["PipelineRole"].split(":")[4]
        region = given["KeyArn"].split(":")[3]
        self.bucket = f"arn:aws:s3:::{given['HomeUrl'].removeprefix('s3://')}"

        def arn(service: str, what: str) -> str:
            return f"arn:aws:{service}:{region}:{account}:{what}"

        table = arn("dynamodb", f"table/{given['OnlineTable']}")
        self.arns = {
            **{output: given[output] for output in ROLES},
            "bucket": self.bucket,
            "key": given["KeyArn"],
            "table": table,
            "index": f"{table}/index/latest",
            "catalog-table": arn("glue", "table/fraudline/features"),
            "job": arn("glue", f"job/{given['GlueJobName']}"),
            "pipeline": arn("sagemaker", f"pipeline/{given['PipelineName']}"),
            "package": arn("sagemaker", f"model-package/{given['ModelPackageGroup']}/1"),
            "training-job": arn("sagemaker", "training-job/pipelines-a-Train"),
            "promote": arn("lambda", f"function:{given['PromoteFunction']}"),
            "features-queue": arn("sqs", given["StartFeaturesQueueUrl"].rpartition("/")[2]),
            "runs-queue": arn("sqs", given["StartRunQueueUrl"].rpartition("/")[2]),
            "repository": arn("ecr", f"repository/{given['Repository'].partition('/')[2]}"),
            "secret": secret_arn(given["ApiKeysSecret"]),
        }

    def named(self, each: tuple[str, str]) -> tuple[str, str]:
        """A pair of action and name as one of action and ARN."""
        action, name = each
        return action, self.arns.get(name) or f"{self.bucket}/{name}"


def secret_arn(name: str) -> str:
    """A secret's whole ARN."""
    return str(client("secretsmanager").describe_secret(SecretId=name)["ARN"])


@cache
def iam() -> Any:
    """The one client of IAM: some hundred questions are asked."""
    return client("iam")


def allowed(role: str, action: str, resource: str) -> bool:
    """Whether a role may do an action on a resource, as IAM says; a write asks that there be nothing yet."""
    condition = {"ContextKeyName": "s3:if-none-match", "ContextKeyValues": ["*"], "ContextKeyType": "string"}
    [answer] = iam().simulate_principal_policy(
        PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource], ContextEntries=[condition]
    )["EvaluationResults"]
    return bool(answer["EvalDecision"] == "allowed")


def passable(role: str) -> list[tuple[str, str]]:
    """The roles that a role may pass on, each with the service it may pass it to ("" for any)."""
    found = []
    for statement in statements(role):
        if statement["Effect"] == "Allow" and "iam:PassRole" in _listed(statement["Action"]):
            service = statement.get("Condition", {}).get("StringEquals", {}).get("iam:PassedToService", "")
            found += [(resource, service) for resource in _listed(statement["Resource"])]
    return found


def written_once(role: str) -> list[str]:
    """The objects that a role may only write if S3 is asked that there be none, as ARNs."""
    return [
        resource
        for statement in statements(role)
        if statement["Effect"] == "Deny" and "s3:PutObject" in _listed(statement["Action"])
        if statement.get("Condition", {}).get("Null") == {"s3:if-none-match": "true"}
        for resource in _listed(statement["Resource"])
    ]


def statements(role: str) -> Iterator[dict[str, Any]]:
    """The statements of a role's policies."""
    name = role.rpartition("/")[2]
    for policy in iam().list_role_policies(RoleName=name)["PolicyNames"]:
        yield from _read(iam().get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"])["Statement"]


def _read(document: Any) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads(unquote(document)) if isinstance(document, str) else document
    return policy


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def trusted(role: str) -> Iterator[str]:
    """Who may assume a role."""
    found = iam().get_role(RoleName=role.rpartition("/")[2])["Role"]
    for statement in _read(found["AssumeRolePolicyDocument"])["Statement"]:
        for names in statement["Principal"].values():
            yield from _listed(names)


def written(pairs: list[tuple[str, str]]) -> str:
    """Pairs of action and name, to read."""
    return ", ".join(f"{action} on {name}" for action, name in pairs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--also-trusted", help="ARN of a principal that may assume roles too, as in an emulator")
    sys.exit(verify(str(__doc__), checks, parser))
