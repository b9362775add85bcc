"""Verify the Lambda functions: each configured right, and doing what it must with a test event.

    python tests/verify_lambda_function.py

Test events start no run: they name nothing new. If files wait in incoming/, the function starts a run for them, as it
should have done by itself.
"""

import json
import sys
from typing import Any

from verification import System, verify

from processing.aws_client import client

REACTIONS = ("StartRun", "StartFeatures", "FinishFeatures", "Approve", "ModelAge")
TRIES = "4"
ARRIVED = {"source": "aws.s3", "detail-type": "Object Created"}
CATALOG = {"source": "aws.glue", "detail-type": "Glue Data Catalog Table State Change"}


def checks(system: System) -> None:
    """Configuration, event sources, rules, then test events."""
    for name in (*REACTIONS, "Promote"):
        with system.asking(f"{name} can be looked at"):
            configured(system, name)
    for name in REACTIONS:
        with system.asking(f"{name}'s queue can be looked at"):
            queued(system, name)
    with system.asking("the rules can be looked at"):
        ruled(system)
    with system.asking("test events can be sent"):
        answered(system)


def configured(system: System, name: str) -> None:
    """A function's own configuration."""
    found = client("lambda").get_function_configuration(FunctionName=system.outputs[f"{name}Function"])
    system.expect(f"{name} runs Python", found["Runtime"].startswith("python3."), found["Runtime"])
    module = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
    system.expect(f"{name} calls its handler", found["Handler"] == f"triggers.{module}.handler", found["Handler"])
    system.expect(f"{name} works as its own role", found["Role"] == system.outputs[f"{name}Role"], found["Role"])
    given = found.get("Environment", {}).get("Variables", {})
    if name not in ("Promote", "StartFeatures"):
        home = given.get("FRAUDLINE_HOME")
        system.expect(f"{name} knows the home", home == system.outputs["HomeUrl"], home)


def queued(system: System, name: str) -> None:
    """What feeds a function, and where goes what it cannot do."""
    mappings = client("lambda").list_event_source_mappings(FunctionName=system.outputs[f"{name}Function"])
    states = [mapping.get("State") for mapping in mappings["EventSourceMappings"]]
    system.expect(f"{name} takes from its queue", states == ["Enabled"], states)
    sqs = client("sqs")
    dead = sqs.get_queue_attributes(QueueUrl=system.outputs[f"{name}DeadUrl"], AttributeNames=["All"])["Attributes"]
    queue = sqs.get_queue_attributes(QueueUrl=system.outputs[f"{name}QueueUrl"], AttributeNames=["All"])["Attributes"]
    redrive = json.loads(queue.get("RedrivePolicy", "{}"))
    system.expect(
        f"{name} gives up after {TRIES} tries, into its dead-letter queue",
        (redrive.get("deadLetterTargetArn"), str(redrive.get("maxReceiveCount"))) == (dead["QueueArn"], TRIES),
        redrive,
    )
    number = dead["ApproximateNumberOfMessages"]
    system.expect(f"{name} has given nothing up", number == "0", f"{number} message(s) in its dead-letter queue")


def ruled(system: System) -> None:
    """Which events start a run, by the patterns as they are deployed."""
    events, bucket = client("events"), system.outputs["HomeUrl"].removeprefix("s3://")
    patterns = {}
    for page in events.get_paginator("list_rules").paginate():
        patterns |= {rule["Name"]: rule["EventPattern"] for rule in page["Rules"] if "EventPattern" in rule}

    def matched(kind: dict[str, str], detail: dict[str, Any]) -> list[str]:
        event = {"id": "1", "account": "1", "time": "2026-01-01T00:00:00Z", "region": "r", "resources": []}
        written = json.dumps({**event, **kind, "detail": detail})
        return [
            name
            for name, pattern in patterns.items()
            if events.test_event_pattern(EventPattern=pattern, Event=written)["Result"]
        ]

    def file(key: str) -> dict[str, Any]:
        return {"bucket": {"name": bucket}, "object": {"key": key}}

    incoming = matched(ARRIVED, file("incoming/a.csv"))
    system.expect("a file in incoming/ calls for a run", len(incoming) == 1 and "FileArrived" in incoming[0], incoming)
    other = matched(ARRIVED, file("archive/a.csv")) + matched(ARRIVED, file("runs/r/train/a.parquet"))
    system.expect("files elsewhere do not", not other, other)
    loaded = matched(CATALOG, {"databaseName": "fraudline_landing", "changedTables": ["t"]})
    system.expect("a table that others load calls for a run", len(loaded) == 1 and "TableLoaded" in loaded[0], loaded)
    own = matched(CATALOG, {"databaseName": "fraudline", "changedTables": ["features"]})
    system.expect("our own tables' changes do not", not own, own)


def answered(system: System) -> None:
    """Test events, handed to the functions directly."""
    event = {**ARRIVED, "detail": {"object": {"key": "incoming/verify-nothing.csv"}}}
    answer, error = invoke(system, "StartRun", {"Records": [record(event)]})
    waits = [entry.key for entry in system.home.entries("incoming/")]
    fitting = answer.get("started") == "" if not waits else "reason" in answer
    system.expect("StartRun starts nothing where nothing waits", not error and fitting, answer)
    answer, error = invoke(system, "ModelAge", {"Records": []})
    latest = system.registry.latest()
    knows = (answer.get("days") is None) == (latest is None)
    system.expect("ModelAge tells the serving model's age", not error and knows, answer)
    answer, error = invoke(system, "Promote", {"home": system.outputs["HomeUrl"], "version": "none", "run": "verify"})
    system.expect("Promote refuses a version that is not there", error, answer)
    after = system.registry.latest()
    system.expect("and leaves latest.json as it was", after == latest, after)


def record(event: dict[str, Any]) -> dict[str, Any]:
    """An event as SQS hands it to a function."""
    return {"messageId": "verify", "body": json.dumps(event), "attributes": {"ApproximateReceiveCount": "1"}}


def invoke(system: System, name: str, event: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """A function's answer, and whether it is an error."""
    given = client("lambda", read=70.0).invoke(
        FunctionName=system.outputs[f"{name}Function"], Payload=json.dumps(event)
    )
    return json.load(given["Payload"]) or {}, "FunctionError" in given


if __name__ == "__main__":
    sys.exit(verify(str(__doc__), checks))
