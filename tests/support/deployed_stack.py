"""The stack deployed to an emulator, for tests, with services that do what the emulator only records.

The emulator has no SageMaker and runs no Glue jobs: `sagemaker_service.py` and `glue_service.py` do. Resources that it
does not support at all (DROPPED) are left out of a copy of the assembly; assertions on the template cover them.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

from emulator import ACCOUNT, REGION, Emulator, free_port, running_emulator

from pipeline.infrastructure import cdk
from pipeline.infrastructure.deploy import TASKS, bootstrap, deploy
from pipeline.infrastructure.target import find_target
from processing.aws_client import client

DROPPED = (
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::CloudTrail::Trail",
    "AWS::EC2::FlowLog",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::Glue::SecurityConfiguration",
    "AWS::SageMaker::ModelPackageGroup",
    "AWS::SageMaker::Pipeline",
)
SOURCE = "test"  # of events that replace AWS's own, which only AWS can send
HERE = Path(__file__).parent


@dataclass(frozen=True)
class DeployedStack:
    """A deployed stack. environment: of its clients, as the account's root; dropped: resources left out, by type."""

    emulator: Emulator
    environment: dict[str, str]
    outputs: dict[str, str]
    dropped: Counter[str]
    folder: Path

    def role(self, output: str) -> dict[str, str]:
        """The environment of a process that has the role whose ARN is in that output."""
        sts = client("sts")
        keys = sts.assume_role(RoleArn=self.outputs[output], RoleSessionName="test")["Credentials"]
        return {
            **self.environment,
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
        }


@contextmanager
def deployed_stack(folder: Path) -> Iterator[DeployedStack]:
    """Synthesize, start all services, deploy. The block has the account's environment; everything ends with it."""
    cdk.command_line()  # fetched now if missing: the emulator cannot answer that request
    with ExitStack() as stack:
        port = free_port()
        services = {"AWS_ENDPOINT_URL_SAGEMAKER": f"http://127.0.0.1:{port}"}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        emulator = stack.enter_context(running_emulator(folder, PATH=path, **services))
        # The CDK's command line caches the account of an access key, and all emulators have the same key.
        environment = {**emulator.environment, **services, "CDK_HOME": str(folder / "cdk")}
        stack.enter_context(patch.dict(os.environ, environment))
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
            os.environ.pop(name, None)
        log = stack.enter_context((folder / "services.log").open("wb"))
        stack.enter_context(_service(log, "sagemaker_service.py", str(port), str(folder / "executions")))
        _wait_for(port)
        assembly = synthesize(folder / "assembly")
        dropped = fit_to_emulator(assembly / "Fraudline.template.json")
        target = find_target()
        bootstrap(target, shown=False)
        quiet: dict[str, Any] = {"confirm": lambda question: True, "say": lambda line: None, "shown": False}
        outputs = deploy(target, assembly=assembly, **quiet)
        create_pipeline(outputs)
        stack.enter_context(_service(log, "glue_service.py", outputs["GlueJobName"], str(folder / "job-runs")))
        yield DeployedStack(emulator, environment, outputs, dropped, folder)


def synthesize(folder: Path) -> Path:
    """Synthesize the assembly, as `fraudline deploy` does."""
    variables = {"CDK_DEFAULT_ACCOUNT": ACCOUNT, "CDK_DEFAULT_REGION": REGION}
    variables |= {"FRAUDLINE_ZONES": f"{REGION}a,{REGION}b"}
    variables |= {"FRAUDLINE_EVENT_SOURCES": SOURCE, "FRAUDLINE_SETTLE_SECONDS": "2", **cdk.node_environment()}
    with patch.dict(os.environ, variables):
        from pipeline.infrastructure.cdk_app import deployment_from_environment
        from pipeline.infrastructure.stack import make_app

        make_app(deployment_from_environment(), folder).synth()
    return folder


def fit_to_emulator(path: Path) -> Counter[str]:
    """Remove from a template what the emulator does not support; returns how many resources of each type.

    The pipeline's definition becomes an output, so that `create_pipeline` gets it with all references resolved. The
    services beside the emulator are not AWS services, so the account's root may assume the roles too.
    """
    template: dict[str, Any] = json.loads(path.read_text())
    resources = template["Resources"]
    removed = {name: resource for name, resource in resources.items() if resource["Type"] in DROPPED}
    [pipeline] = [
        resource["Properties"] for resource in removed.values() if resource["Type"] == "AWS::SageMaker::Pipeline"
    ]
    definition = pipeline["PipelineDefinition"]["PipelineDefinitionBody"]
    template["Outputs"] |= {"Definition": {"Value": definition}, "DefinitionRole": {"Value": pipeline["RoleArn"]}}
    for name in removed:
        del resources[name]
    for resource in resources.values():
        needed = resource.pop("DependsOn", [])
        dependencies = [name for name in ([needed] if isinstance(needed, str) else needed) if name not in removed]
        if dependencies:
            resource["DependsOn"] = dependencies
        if resource["Type"] == "AWS::IAM::Role":
            trusted = resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            root = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
            trusted.append({"Effect": "Allow", "Principal": root, "Action": "sts:AssumeRole"})
        if resource["Type"] == "AWS::IAM::Policy":
            for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
                _as_tables(statement)
                _inert(statement)
    [service] = [resource for resource in resources.values() if resource["Type"] == "AWS::ECS::Service"]
    service["Properties"]["DesiredCount"] = _with_tasks(service["Properties"]["DesiredCount"])
    [network] = [name for name, resource in resources.items() if resource["Type"] == "AWS::EC2::VPC"]
    cidr = resources[network]["Properties"]["CidrBlock"]
    text = json.dumps(template).replace(json.dumps({"Fn::GetAtt": [network, "CidrBlock"]}), json.dumps(cidr))
    for name, resource in resources.items():
        if resource["Type"] == "AWS::SecretsManager::Secret":
            # A reference to a secret is its ARN, but the emulator returns its name.
            text = text.replace(json.dumps({"Ref": name}), json.dumps({"Fn::GetAtt": [name, "Arn"]}))
    path.write_text(text)
    return Counter(resource["Type"] for resource in removed.values())


def _with_tasks(count: Any) -> Any:
    """The emulator reads a parameter of type Number as text, so the number takes its place."""
    if isinstance(count, dict):
        return TASKS if count == {"Ref": "StartTasks"} else {key: _with_tasks(one) for key, one in count.items()}
    return [_with_tasks(one) for one in count] if isinstance(count, list) else count


def _as_tables(statement: dict[str, Any]) -> None:
    """The emulator checks a permission on the table `name` where Glue checks one on the database `name`."""
    if "glue:GetDatabase" in statement["Action"]:
        databases = [one for one in statement["Resource"] if ":database/" in json.dumps(one)]
        statement["Resource"] += [json.loads(json.dumps(one).replace(":database/", ":table/")) for one in databases]


def _inert(statement: dict[str, Any]) -> None:
    """The emulator does not know the condition key of conditional writes, so it would deny every write.

    It does enforce the condition of a request. Assertions on the template, and `fraudline verify`, cover the statement.
    """
    if "s3:if-none-match" in statement.get("Condition", {}).get("Null", {}):
        statement["Condition"]["StringEquals"] = {"aws:PrincipalArn": "nobody"}


def create_pipeline(outputs: dict[str, str]) -> None:
    """Create the model package group and the pipeline, as CloudFormation does in AWS."""
    sagemaker = client("sagemaker")
    sagemaker.create_model_package_group(ModelPackageGroupName=outputs["ModelPackageGroup"])
    sagemaker.create_pipeline(
        PipelineName=outputs["PipelineName"],
        PipelineDefinition=outputs.pop("Definition"),
        RoleArn=outputs.pop("DefinitionRole"),
        ClientRequestToken="deployed-by-the-tests-once-and-no-more",
    )


@contextmanager
def _service(log: IO[bytes], script: str, *words: str) -> Iterator[None]:
    """A service's process, which ends with the block."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / script), *words], stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # and its children
        process.wait(10)


def _wait_for(port: int) -> None:
    ends = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)
