"""The deployed system, end to end: the stack in an emulator with IAM enforced, each part real and in its own role.

A file lands in S3 and the product does the rest: EventBridge, SQS, Lambda, the SageMaker pipeline, the Glue job,
training, evaluation, the registry, and an API that scores through DynamoDB and follows promotions.
"""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from chain import CONTRACT, FIRST_DAY, Chain, payment, until
from deployed_stack import deployed_stack
from emulator import ACCOUNT
from sagemaker_service import put_event

from pipeline.infrastructure.deploy import deploy, desired_tasks
from pipeline.infrastructure.destroy import destroy
from pipeline.infrastructure.target import deployed_outputs, find_target
from processing.aws_client import client
from processing.errors import FraudlineError

pytestmark = [pytest.mark.cloud, pytest.mark.spark, pytest.mark.slow]

DAYS = 17
NEXT_DAY = FIRST_DAY + timedelta(days=DAYS)
VERIFIED = {
    "glue_job": ("--settle", "120"),
    "lambda_function": (),
    "iam_roles": ("--also-trusted", f"arn:aws:iam::{ACCOUNT}:root"),
}
ALL_STEPS = ("Features", "Train", "Evaluate", "Gate", "Register", "Approved", "Promote")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with deployed_stack(tmp_path_factory.mktemp("stack")) as deployment:
        yield Chain(deployment)


def test_only_resources_that_the_emulator_lacks_are_left_out(chain: Chain) -> None:
    assert chain.deployment.dropped == Counter(
        {
            "AWS::ApplicationAutoScaling::ScalableTarget": 1,
            "AWS::ApplicationAutoScaling::ScalingPolicy": 2,
            "AWS::CloudTrail::Trail": 1,
            "AWS::EC2::FlowLog": 1,
            "AWS::EC2::SecurityGroupEgress": 1,
            "AWS::EC2::SecurityGroupIngress": 2,
            "AWS::Glue::SecurityConfiguration": 1,
            "AWS::SageMaker::ModelPackageGroup": 1,
            "AWS::SageMaker::Pipeline": 1,
        }
    )


def test_files_become_a_serving_model_and_more_files_replace_it(chain: Chain, tmp_path: Path) -> None:
    chain.home.write("contract.toml", CONTRACT.text.encode())
    chain.land("first.parquet", days=DAYS - 2, folder=tmp_path)
    chain.land("rest.csv.gz", first=NEXT_DAY - timedelta(days=2), days=2, folder=tmp_path)
    run = chain.next_run(0)
    assert run["PipelineExecutionStatus"] == "Succeeded", run.get("FailureReason")
    assert chain.steps(run) == dict.fromkeys(ALL_STEPS, "Succeeded")
    first = chain.registry.latest()
    assert first
    package = chain.newest_package()
    assert package["ModelApprovalStatus"] == "Approved"
    assert package["CustomerMetadataProperties"]["version"] == first.version
    assert sorted(chain.archived()) == ["first.parquet", "rest.csv.gz"]

    with chain.serving() as api:
        transaction = payment(CONTRACT, 1, NEXT_DAY)
        status, answer = api.ask("/v1/score", transaction)
        assert (status, answer["model_version"], answer["repeated"]) == (200, first.version, False)
        assert api.ask("/v1/score", transaction)[1] == answer | {"repeated": True}
        stored = client("dynamodb").scan(TableName=chain.outputs["OnlineTable"], Select="COUNT")
        assert stored["Count"] > 100  # the profiles that the job wrote, and this decision

        verified = chain.verify("ecs_api", "--url", api.url, key=api.token)
        assert verified.returncode == 0, verified.stdout + verified.stderr

        second = chain.file("second.parquet", first=NEXT_DAY, days=3, folder=tmp_path)
        verified = chain.verify("end_to_end", str(second))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert len(chain.executions()) == 2  # the two files started one run; its own commits and files started none
        latest = chain.registry.latest()
        assert latest
        until(lambda: api.ask("/v1/model")[1]["version"] == latest.version, 20, "the new model")
        other = api.ask("/v1/score", payment(CONTRACT, 2, NEXT_DAY + timedelta(days=3)))[1]
        assert other["model_version"] == latest.version
    assert chain.verify("ecs_api", "--url", api.url).returncode == 1  # no server answers


def test_the_deployed_job_functions_and_roles_pass_their_checks(chain: Chain) -> None:
    for name, words in VERIFIED.items():
        verified = chain.verify(name, *words)
        assert verified.returncode == 0, verified.stdout + verified.stderr


def test_verify_detects_broken_parts(chain: Chain) -> None:
    extra = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}
    with chain.policy("ApiTaskRole", extra):
        checked = chain.verify("iam_roles", *VERIFIED["iam_roles"])
    assert checked.returncode == 1
    assert "s3:PutObject on models/latest.json" in checked.stdout
    with chain.policy("FinishFeaturesRole", {"Effect": "Deny", "Action": "glue:GetJobRun", "Resource": "*"}):
        checked = chain.verify("iam_roles", *VERIFIED["iam_roles"])
    assert "denied: glue:GetJobRun on job" in checked.stdout

    glue, job = client("glue"), chain.outputs["GlueJobName"]
    whole = glue.get_job(JobName=job)["Job"]
    update = {key: whole[key] for key in ("Role", "Command", "DefaultArguments", "SecurityConfiguration")}
    glue.update_job(JobName=job, JobUpdate={**update, "GlueVersion": "4.0"})
    checked = chain.verify("glue_job", *VERIFIED["glue_job"])
    glue.update_job(JobName=job, JobUpdate={**update, "GlueVersion": "5.1"})
    assert checked.returncode == 1
    assert "4.0" in checked.stdout

    functions = client("lambda")
    [mapping] = functions.list_event_source_mappings(FunctionName=chain.outputs["StartRunFunction"])[
        "EventSourceMappings"
    ]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    checked = chain.verify("lambda_function")
    assert checked.returncode == 1
    assert "Disabl" in checked.stdout
    checked = chain.verify("end_to_end", "--start-seconds", "3")
    assert checked.returncode == 1
    assert "none within the time" in checked.stdout
    chain.home.remove("incoming/")
    client("sqs").purge_queue(QueueUrl=chain.outputs["StartRunQueueUrl"])
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def test_a_repeated_event_starts_no_run(chain: Chain) -> None:
    before = len(chain.executions())
    detail = {"bucket": {"name": chain.home.url.removeprefix("s3://")}, "object": {"key": "incoming/second.parquet"}}
    for _ in range(3):
        put_event("Object Created", detail)
    until(lambda: chain.quiet("StartRun"), 30, "an empty queue")
    assert len(chain.executions()) == before


def test_a_model_approved_in_studio_serves(chain: Chain) -> None:
    first = chain.packages()[0]
    version = first["CustomerMetadataProperties"]["version"]
    detail = {
        "ModelPackageGroupName": chain.outputs["ModelPackageGroup"],
        "ModelPackageArn": first["ModelPackageArn"],
        "ModelApprovalStatus": "Approved",
    }
    put_event("SageMaker Model Package State Change", detail)
    until(lambda: (latest := chain.registry.latest()) and latest.version == version, 30, "the promotion")


def test_a_failing_feature_job_fails_the_run_with_its_reason(chain: Chain, tmp_path: Path) -> None:
    before, served = len(chain.executions()), chain.registry.latest()
    chain.home.write("incoming/broken.csv", b"transaction_id,amount\nx,1\n")
    run = chain.next_run(before)
    assert run["PipelineExecutionStatus"] == "Failed"
    assert chain.steps(run) == {"Features": "Failed"}
    assert "broken.csv" in run["FailureReason"]
    assert "event_time" in run["FailureReason"]
    assert chain.registry.latest() == served
    assert "incoming/broken.csv" in [entry.key for entry in chain.home.entries("incoming/")]
    chain.home.remove("incoming/broken.csv")


def test_failing_training_fails_the_run_with_its_reason(chain: Chain) -> None:
    served = chain.registry.latest()
    result = chain.command("run", "--on", "aws", "--set", "LearningRate=-1")
    assert result.returncode == 1
    assert "Train" in result.stderr
    assert "learning_rate" in result.stderr
    assert chain.registry.latest() == served


def test_a_challenger_that_loses_is_registered_as_rejected_and_the_run_succeeds(chain: Chain) -> None:
    served = chain.registry.latest()
    worse = [word for setting in ("MaxIterations=1", "MinAveragePrecision=1") for word in ("--set", setting)]
    result = chain.command("run", "--on", "aws", *worse, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["status"] == "Succeeded"
    package = chain.newest_package()
    assert package["ModelApprovalStatus"] == "Rejected"
    assert "average precision" in package["ModelPackageDescription"]
    assert chain.registry.latest() == served


def test_a_message_that_a_function_may_not_handle_reaches_the_dead_letter_queue_and_fails_the_run(
    chain: Chain, tmp_path: Path
) -> None:
    before, served = len(chain.executions()), chain.registry.latest()
    client("sqs").set_queue_attributes(
        QueueUrl=chain.outputs["StartFeaturesQueueUrl"], Attributes={"VisibilityTimeout": "1"}
    )
    denied = {"Effect": "Deny", "Action": "glue:StartJobRun", "Resource": "*"}
    with chain.policy("StartFeaturesRole", denied):
        chain.land("third.parquet", first=NEXT_DAY + timedelta(days=3), days=1, folder=tmp_path)
        run = chain.next_run(before)
    assert run["PipelineExecutionStatus"] == "Failed"
    assert "the feature job was not started" in run["FailureReason"]
    assert "StartJobRun" in run["FailureReason"]
    [message] = until(lambda: chain.dead("StartFeatures"), 30, "the dead letter")
    assert message["arguments"]["home"] == chain.home.url
    assert chain.registry.latest() == served


def test_redeploying_keeps_settings_and_the_number_of_tasks(chain: Chain) -> None:
    target, lines, outputs = find_target(), list[str](), chain.outputs
    assembly = chain.deployment.folder / "assembly"
    quiet: dict[str, Any] = {"confirm": lambda question: True, "say": lines.append, "shown": False}
    with pytest.raises(FraudlineError, match="no image 'never-pushed'"):
        deploy(target, assembly=assembly, image_tag="never-pushed", **quiet)
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"})
    repository = outputs["Repository"].partition("/")[2]
    client("ecr").put_image(repositoryName=repository, imageManifest=manifest, imageTag="pushed")
    deploy(target, assembly=assembly, image_tag="pushed", **quiet)
    service = {"cluster": outputs["ClusterName"], "service": outputs["ServiceName"]}
    assert desired_tasks(client, outputs) == 2  # there are a model and an image
    client("ecs").update_service(**service, desiredCount=5)  # as autoscaling does
    deploy(target, assembly=assembly, **quiet)
    assert any("FRAUDLINE_SETTLE_SECONDS=2" in line for line in lines)  # the setting was omitted this time
    assert desired_tasks(client, outputs) == 5


def test_destroying_the_stack_keeps_the_data(chain: Chain) -> None:
    target, served, lines = find_target(), chain.registry.latest(), list[str]()
    assembly = chain.deployment.folder / "assembly"
    assert not destroy(target, confirm=lambda question: False, say=lines.append)
    assert deployed_outputs(target)["HomeUrl"] == chain.outputs["HomeUrl"]
    assert client("lambda").list_functions()["Functions"]

    assert destroy(target, confirm=lambda question: True, say=lines.append, assembly=assembly, shown=False)
    for output in ("HomeUrl", "OnlineTable", "KeyArn"):
        assert chain.outputs[output] in lines[-1]
    with pytest.raises(FraudlineError, match="there is no stack"):
        deployed_outputs(target)
    assert not client("lambda").list_functions()["Functions"]
    assert client("dynamodb").describe_table(TableName=chain.outputs["OnlineTable"])
    tables = client("glue").get_tables(DatabaseName="fraudline")["TableList"]
    assert {"transactions", "features"} <= {table["Name"] for table in tables}
    with pytest.raises(FraudlineError, match=r"Glue database 'fraudline', of s3://.*, already exists"):
        deploy(target, confirm=lambda question: True, say=lines.append, assembly=assembly, shown=False)
    assert served is not None
    assert chain.registry.latest() == served
    assert chain.registry.manifest(served.version)
