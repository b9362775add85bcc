"""Pipeline definitions for tests, put together from their entries, and local runs of them."""

from pathlib import Path
from textwrap import dedent
from typing import Any

from pipeline.local import Bindings, LocalExecution, Outcome

QUEUE = "local:queue"
ECHO = Bindings(callbacks={QUEUE: lambda message, log: message["arguments"]})

Entry = dict[str, Any]


def get(path: str) -> dict[str, str]:
    """A reference, as `Get`."""
    return {"Get": path}


def join(*values: Any, on: str = "") -> Entry:
    return {"Std:Join": {"On": on, "Values": list(values)}}


def json_get(step: str, file: str, path: str) -> Entry:
    return {"Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}}


def callback(name: str, depends_on: list[Any] | None = None, **arguments: Any) -> Entry:
    """A step whose outputs are its own arguments."""
    outputs = [{"OutputName": key, "OutputType": "String"} for key in arguments]
    entry = {"Name": name, "Type": "Callback", "SqsQueueUrl": QUEUE, "Arguments": arguments}
    return {**entry, "OutputParameters": outputs, "DependsOn": depends_on or []}


def condition(name: str, test: Entry, then: list[Entry], otherwise: list[Entry]) -> Entry:
    arguments = {"Conditions": [test], "IfSteps": then, "ElseSteps": otherwise}
    return {"Name": name, "Type": "Condition", "Arguments": arguments}


def equal(left: Any, right: Any) -> Entry:
    return {"Type": "Equals", "LeftValue": left, "RightValue": right}


def training(name: str, script: Path, output: Path, **fields: Any) -> Entry:
    arguments = {
        "AlgorithmSpecification": {"ContainerEntrypoint": ["python3", str(script)]},
        "OutputDataConfig": {"S3OutputPath": output.as_uri()},
        **fields,
    }
    return {"Name": name, "Type": "Training", "Arguments": arguments}


def channel(name: str, address: str) -> Entry:
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3Uri": address, "S3DataType": "S3Prefix"}},
    }


def document(*steps: Entry, parameters: list[Entry] | None = None) -> Entry:
    return {"Version": "2020-12-01", "Parameters": parameters or [], "Steps": list(steps)}


def script(folder: Path, body: str) -> Path:
    """A Python script in a folder."""
    path = folder / f"script{len(list(folder.glob('script*')))}.py"
    path.write_text(dedent(body))
    return path


def run(folder: Path, definition: Entry, bindings: Bindings = ECHO, **parameters: Any) -> Outcome:
    return LocalExecution(definition, parameters, folder / "runs/r1", "r1", bindings).execute()


def statuses(outcome: Outcome) -> dict[str, str]:
    return {name: step["status"] for name, step in outcome.steps.items()}
