"""The stack deployed into an emulator, for tests, with services beside it that do what the emulator only records.

The emulator knows no SageMaker and runs no Glue job: `sagemaker_service.py` and `glue_service.py` do. What it lacks
altogether (DROPPED) is left out of a copy of the assembly; assertions on the template cover it.
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
SOURCE = "test"  # of events that stand for AWS's own, which nobody else may send
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Deployment:
    """A deployed stack. environment: of its clients, as the account's root; dropped: what was left out, by type."""

    emulator: Emulator
    environment: dict[str, str]
    outputs: dict[str, str]
    dropped: Counter[str]
    folder: Path

    def role(self, output: str) -> dict[str, str]:
        """The environment of a process that works under the role of that output's ARN."""
        sts = client("sts")
        keys = sts.assume_role(RoleArn=self.outputs[output], RoleSessionName="test")["Credentials"]
        return {
            **self.environment,
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
        }


@contextmanager
def deployed_stack(folder: Path) -> Iterator[Deployment]:
    """Synthesize, start everything, deploy; all ends with the block. The environment is the account's meanwhile."""
    cdk.command_line()  # may have to be fetched, which is not the emulator's to answer
    with ExitStack() as held:
        port = free_port()
        services = {"AWS_ENDPOINT_URL_SAGEMAKER": f"http://127.0.0.1:{port}"}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        emulator = held.enter_context(running_emulator(folder, PATH=path, **services))
        # The CDK's command line remembers whose account an access key is of; the emulator's key is anybody's.
        environment = {**emulator.environment, **services, "CDK_HOME": str(folder / "cdk")}
        held.enter_context(patch.dict(os.environ, environment))
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
            os.environ.pop(name, None)
        log = held.enter_context((folder / "services.log").open("wb"))
        held.enter_context(_service(log, "sagemaker_service.py", str(port), str(folder / "executions")))
        _wait_for(port)
        assembly = synthesize(folder / "assembly")
        dropped = fit_to_emulator(assembly / "Fraudline.template.json")
        target = find_target()
        bootstrap(target, shown=False)
        quiet: dict[str, Any] = {"confirm": lambda question: True, "say": lambda said: None, "shown": False}
        outputs = deploy(target, assembly=assembly, **quiet)
        create_pipeline(outputs)
        held.enter_context(_service(log, "glue_service.py", outputs["GlueJobName"], str(folder / "job-runs")))
        yield Deployment(emulator, environment, outputs, dropped, folder)


def synthesize(folder: Path) -> Path:
    """The assembly, as `fraudline deploy` makes it."""
    given = {"CDK_DEFAULT_ACCOUNT": ACCOUNT, "CDK_DEFAULT_REGION": REGION}
    given |= {"FRAUDLINE_ZONES": f"{REGION}a,{REGION}b"}
    given |= {"FRAUDLINE_EVENT_SOURCES": SOURCE, "FRAUDLINE_SETTLE_SECONDS": "2", **cdk.node_environment()}
    with patch.dict(os.environ, given):
        from pipeline.infrastructure.stack import make_app
        from pipeline.infrastructure.synthesize import deployment_from_environment

        make_app(deployment_from_environment(), folder).synth()
    return folder


def fit_to_emulator(path: Path) -> Counter[str]:
    """Leave out of a template what the emulator does not know; how many of which type.

    The pipeline's definition becomes an output, so that `create_pipeline` gets it with every reference resolved. The
    services beside the emulator are no AWS services, so roles let the account's root assume them too.
    """
    template: dict[str, Any] = json.loads(path.read_text())
    resources = template["Resources"]
    gone = {name: found for name, found in resources.items() if found["Type"] in DROPPED}
    [pipeline] = [found["Properties"] for found in gone.values() if found["Type"] == "AWS::SageMaker::Pipeline"]
    definition = pipeline["PipelineDefinition"]["PipelineDefinitionBody"]
    template["Outputs"] |= {"Definition": {"Value": definition}, "DefinitionRole": {"Value": pipeline["RoleArn"]}}
    for name in gone:
        del resources[name]
    for found in resources.values():
        wanted = found.pop("DependsOn", [])
        kept = [name for name in ([wanted] if isinstance(wanted, str) else wanted) if name not in gone]
        if kept:
            found["DependsOn"] = kept
        if found["Type"] == "AWS::IAM::Role":
            trusted = found["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            root = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
            trusted.append({"Effect": "Allow", "Principal": root, "Action": "sts:AssumeRole"})
        if found["Type"] == "AWS::IAM::Policy":
            for statement in found["Properties"]["PolicyDocument"]["Statement"]:
                _as_tables(statement)
                _inert(statement)
    [service] = [found for found in resources.values() if found["Type"] == "AWS::ECS::Service"]
    service["Properties"]["DesiredCount"] = _with_tasks(service["Properties"]["DesiredCount"])
    [network] = [name for name, found in resources.items() if found["Type"] == "AWS::EC2::VPC"]
    cidr = resources[network]["Properties"]["CidrBlock"]
    text = json.dumps(template).replace(json.dumps({"Fn::GetAtt": [network, "CidrBlock"]}), json.dumps(cidr))
    for name, found in resources.items():
        if found["Type"] == "AWS::SecretsManager::Secret":  # a reference to one is its ARN; the emulator gives its name
            text = text.replace(json.dumps({"Ref": name}), json.dumps({"Fn::GetAtt": [name, "Arn"]}))
    path.write_text(text)
    return Counter(found["Type"] for found in gone.values())


def _with_tasks(count: Any) -> Any:
    """The emulator takes a parameter of type Number for text: here is the number that a deployment asks for instead."""
    if isinstance(count, dict):
        return TASKS if count == {"Ref": "StartTasks"} else {key: _with_tasks(one) for key, one in count.items()}
    return [_with_tasks(one) for one in count] if isinstance(count, list) else count


def _as_tables(statement: dict[str, Any]) -> None:
    """The emulator asks for a right on the table `name` where Glue asks for one on the database `name`."""
    if "glue:GetDatabase" in statement["Action"]:
        databases = [one for one in statement["Resource"] if ":database/" in json.dumps(one)]
        statement["Resource"] += [json.loads(json.dumps(one).replace(":database/", ":table/")) for one in databases]


def _inert(statement: dict[str, Any]) -> None:
    """The emulator does not know a request's condition on what is there, so that it would deny every write.

    It obeys the condition itself. Assertions on the template cover the statement, `verify_iam_roles.py` looks for it.
    """
    if "s3:if-none-match" in statement.get("Condition", {}).get("Null", {}):
        statement["Condition"]["StringEquals"] = {"aws:PrincipalArn": "nobody"}


def create_pipeline(outputs: dict[str, str]) -> None:
    """Do for SageMaker what the deployment does: the group of model packages, and the pipeline."""
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
    """A service's process, for the time of the block."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / script), *words], stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # and what it has started
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
