"""What tests do with a deployed stack: upload data, follow runs, send requests, look into queues."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import boto3
from deployed_stack import DeployedStack
from emulator import free_port
from places import ROOT

from pipeline.registry.registry import Registry
from processing.aws_client import client
from processing.contract import Contract
from processing.contracts.reader import load, parse
from processing.storage.home import Home
from processing.storage.open import open_home
from processing.synthetic.synthesize import synthesize, write

Result = TypeVar("Result")

CONTRACT = parse(
    load("transactions")
    .text.replace("[1, 7, 30]", "[1, 3]")
    .replace("delay_days = 7", "delay_days = 2")
    .replace("train_days = 60", "train_days = 9")
    .replace("test_days = 7", "test_days = 3")
)
FIRST_DAY = date(2026, 3, 1)
RUN_SECONDS = 300.0


def until(poll: Callable[[], Result | None], seconds: float, what: str) -> Result:
    """Call a function until it returns something; fails after that many seconds."""
    ends = time.monotonic() + seconds
    while True:
        result = poll()
        if result:
            return result
        assert time.monotonic() < ends, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


class Chain:
    """A deployment as its users see it."""

    def __init__(self, deployment: DeployedStack) -> None:
        self.deployment = deployment
        self.outputs = deployment.outputs
        self.home: Home = open_home(self.outputs["HomeUrl"])
        self.registry = Registry(self.home)

    def file(self, name: str, *, first: date = FIRST_DAY, days: int, folder: Path) -> Path:
        """A file of synthetic transactions."""
        path = folder / name
        write(synthesize(first, days, customers=900, terminals=300, seed=7), path)
        return path

    def land(self, name: str, *, first: date = FIRST_DAY, days: int, folder: Path) -> None:
        """Upload such a file to incoming/, as a data provider does."""
        self.home.upload(self.file(name, first=first, days=days, folder=folder), f"incoming/{name}")

    def executions(self) -> list[dict[str, Any]]:
        """The executions of the pipeline, newest first."""
        response = client("sagemaker").list_pipeline_executions(PipelineName=self.outputs["PipelineName"])
        executions: list[dict[str, Any]] = response["PipelineExecutionSummaries"]
        return executions

    def next_run(self, before: int) -> dict[str, Any]:
        """Wait for the end of the run after the first `before` ones; returns its description."""

        def ended() -> dict[str, Any] | None:
            executions = self.executions()
            if len(executions) <= before or executions[0]["PipelineExecutionStatus"] == "Executing":
                return None
            arn = executions[0]["PipelineExecutionArn"]
            described: dict[str, Any] = client("sagemaker").describe_pipeline_execution(PipelineExecutionArn=arn)
            return described

        return until(ended, RUN_SECONDS, "a run's end")

    def steps(self, run: dict[str, Any]) -> dict[str, str]:
        """The status of each step that a run reached."""
        answer = client("sagemaker").list_pipeline_execution_steps(PipelineExecutionArn=run["PipelineExecutionArn"])
        return {step["StepName"]: step["StepStatus"] for step in answer["PipelineExecutionSteps"]}

    def packages(self) -> list[dict[str, Any]]:
        """The model packages, oldest first, each as DescribeModelPackage returns it."""
        sagemaker, group = client("sagemaker"), self.outputs["ModelPackageGroup"]
        listed = sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
        arns = sorted((package["ModelPackageArn"] for package in listed), key=lambda arn: int(arn.rpartition("/")[2]))
        return [sagemaker.describe_model_package(ModelPackageName=arn) for arn in arns]

    def newest_package(self) -> dict[str, Any]:
        """The newest package."""
        return self.packages()[-1]

    def archived(self) -> list[str]:
        """The names of the files that were archived."""
        return [entry.key.rpartition("/")[2] for entry in self.home.entries("archive/")]

    def quiet(self, reaction: str) -> bool:
        """Whether a reaction's queue is empty and no message is in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        names.append("ApproximateNumberOfMessagesDelayed")
        answer = client("sqs").get_queue_attributes(QueueUrl=self.outputs[f"{reaction}QueueUrl"], AttributeNames=names)
        return all(int(number) == 0 for number in answer["Attributes"].values())

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the `fraudline` command."""
        environment = self.deployment.environment | {"PATH": os.environ["PATH"]}
        command = [sys.executable, "-m", "pipeline.command.main", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)

    def verify(self, name: str, *words: str, key: str = "") -> subprocess.CompletedProcess[str]:
        """Run one of the `verify_*.py` scripts on this deployment."""
        environment = self.deployment.environment | {"PATH": os.environ["PATH"], "FRAUDLINE_API_KEY": key}
        command = [sys.executable, str(ROOT / "tests" / f"verify_{name}.py"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)

    @contextmanager
    def policy(self, role: str, statement: dict[str, Any]) -> Iterator[None]:
        """Give a role a further statement, until the block ends."""
        iam, name = client("iam"), self.outputs[role].rpartition("/")[2]
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        iam.put_role_policy(RoleName=name, PolicyName="added-by-a-test", PolicyDocument=json.dumps(policy))
        try:
            yield
        finally:
            iam.delete_role_policy(RoleName=name, PolicyName="added-by-a-test")

    def dead(self, reaction: str) -> list[dict[str, Any]]:
        """The bodies of the messages in a reaction's dead-letter queue."""
        sqs, url = client("sqs"), self.outputs[f"{reaction}DeadUrl"]
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0).get("Messages", [])
        return [json.loads(message["Body"]) for message in messages]

    @contextmanager
    def serving(self) -> Iterator["ApiClient"]:
        """Start the API as ECS does, and yield a client with its own key.

        The environment is the task definition's, the execution role fetches the secret, and the process has the task
        role's credentials.
        """
        secret = self.outputs["ApiKeysSecret"]
        scopes = [word for scope in ("score", "feedback", "admin") for word in ("--scope", scope)]
        name = f"tests-{uuid.uuid4().hex[:8]}"
        added = self.command("keys", "add", name, *scopes, "--secret", secret)
        assert added.returncode == 0, added.stderr
        token = added.stdout.split()[0]
        starter = client_of("secretsmanager", self.deployment.role("ApiExecutionRole"))
        keys = starter.get_secret_value(SecretId=secret)["SecretString"]
        answer = client("ecs").describe_task_definition(taskDefinition=self.outputs["TaskDefinition"])
        [container] = answer["taskDefinition"]["containerDefinitions"]
        variables = {each["name"]: each["value"] for each in container["environment"]}
        port = free_port()
        variables |= {"FRAUDLINE_PORT": str(port), "FRAUDLINE_STORE_TIMEOUT_SECONDS": "20", "FRAUDLINE_API_KEYS": keys}
        variables["FRAUDLINE_HOST"] = "127.0.0.1"  # the tests stay on this machine
        with (self.deployment.folder / "api.log").open("ab") as log:
            environment = {**self.deployment.role("ApiTaskRole"), **variables}
            process = subprocess.Popen([sys.executable, "-m", "serving"], env=environment, stdout=log, stderr=log)
            try:
                api = ApiClient(f"http://127.0.0.1:{port}", token)
                until(lambda: process.poll() is None and api.ready(), 60, "the API's readiness")
                yield api
            finally:
                process.terminate()
                process.wait(30)


def client_of(service: str, environment: Mapping[str, str]) -> Any:
    """A client of an AWS service, with an environment's credentials."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    return boto3.client(service, **{name.lower(): environment[name] for name in names})


class ApiClient:
    """The scoring API, over HTTP."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def ready(self) -> bool:
        """Whether it answers and serves a model."""
        try:
            return self.ask("/health/ready")[0] == 200
        except OSError:
            return False

    def ask(self, path: str, document: Any = None) -> tuple[int, Any]:
        """Send a request; returns status and body."""
        body = None if document is None else json.dumps(document).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def payment(contract: Contract, number: int, day: date) -> dict[str, Any]:
    """A transaction as a client sends it."""
    return {
        contract.id: f"payment-{number}",
        "event_time": f"{day.isoformat()}T12:00:00Z",
        "amount": 10.0 + number,
        "customer_id": "C000003",
        "terminal_id": "T000005",
        "channel": "online",
    }
