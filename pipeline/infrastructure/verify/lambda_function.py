"""Verify the Lambda functions: that each is configured correctly, and does what it should with a test event.

Test events name nothing new, so they start no run. If files wait in incoming/, StartRun starts a run for them, as it
should have done by itself.
"""

import json
from typing import Any

from pipeline.infrastructure.names import DATABASE, LANDING_DATABASE, REACTIONS, Output, ReactionOutput
from pipeline.infrastructure.verify.system import DeployedSystem
from processing.aws_client import client

ATTEMPTS = "4"
OBJECT_CREATED = {"source": "aws.s3", "detail-type": "Object Created"}
TABLE_CHANGED = {"source": "aws.glue", "detail-type": "Glue Data Catalog Table State Change"}


def check(system: DeployedSystem) -> None:
    """Configuration, queues, rules, then test events."""
    for name in (*REACTIONS, "Promote"):
        with system.asking(f"{name} can be described"):
            _check_configuration(system, name)
    for name in REACTIONS:
        with system.asking(f"{name}'s queue can be described"):
            _check_queue(system, name)
    with system.asking("the rules can be listed"):
        _check_rules(system)
    with system.asking("test events can be sent"):
        _check_responses(system)


def _function(system: DeployedSystem, name: str) -> str:
    return system.outputs[ReactionOutput.FUNCTION.of(name)]


def _check_configuration(system: DeployedSystem, name: str) -> None:
    found = client("lambda").get_function_configuration(FunctionName=_function(system, name))
    system.expect(f"{name} runs Python", found["Runtime"].startswith("python3."), found["Runtime"])
    module = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
    handler = f"triggers.functions.{module}.handler"
    system.expect(f"{name} calls its handler", found["Handler"] == handler, found["Handler"])
    role = system.outputs[ReactionOutput.ROLE.of(name)]
    system.expect(f"{name} has its own role", found["Role"] == role, found["Role"])
    variables = found.get("Environment", {}).get("Variables", {})
    if name not in ("Promote", "StartFeatures"):
        home = variables.get("FRAUDLINE_HOME")
        system.expect(f"{name} knows the home", home == system.outputs[Output.HOME_URL], home)


def _check_queue(system: DeployedSystem, name: str) -> None:
    """The queue that feeds a function, and the dead-letter queue behind it."""
    mappings = client("lambda").list_event_source_mappings(FunctionName=_function(system, name))
    states = [mapping.get("State") for mapping in mappings["EventSourceMappings"]]
    system.expect(f"{name} is fed by its queue", states == ["Enabled"], states)
    dead, queue = (
        client("sqs").get_queue_attributes(QueueUrl=system.outputs[output.of(name)], AttributeNames=["All"])[
            "Attributes"
        ]
        for output in (ReactionOutput.DEAD_URL, ReactionOutput.QUEUE_URL)
    )
    redrive = json.loads(queue.get("RedrivePolicy", "{}"))
    system.expect(
        f"{name} gives up after {ATTEMPTS} attempts, and its dead-letter queue gets the message",
        (redrive.get("deadLetterTargetArn"), str(redrive.get("maxReceiveCount"))) == (dead["QueueArn"], ATTEMPTS),
        redrive,
    )
    number = dead["ApproximateNumberOfMessages"]
    system.expect(f"{name} has given up on no message", number == "0", f"{number} message(s) in its dead-letter queue")


def _check_rules(system: DeployedSystem) -> None:
    """Which events start a run, by the patterns as they are deployed."""
    events, bucket = client("events"), system.outputs[Output.HOME_URL].removeprefix("s3://")
    patterns: dict[str, str] = {}
    for page in events.get_paginator("list_rules").paginate():
        patterns |= {rule["Name"]: rule["EventPattern"] for rule in page["Rules"] if "EventPattern" in rule}

    def matching(kind: dict[str, str], detail: dict[str, Any]) -> list[str]:
        envelope = {"id": "1", "account": "1", "time": "2026-01-01T00:00:00Z", "region": "r", "resources": []}
        event = json.dumps({**envelope, **kind, "detail": detail})
        return [
            name
            for name, pattern in patterns.items()
            if events.test_event_pattern(EventPattern=pattern, Event=event)["Result"]
        ]

    def file(key: str) -> dict[str, Any]:
        return {"bucket": {"name": bucket}, "object": {"key": key}}

    incoming = matching(OBJECT_CREATED, file("incoming/a.csv"))
    system.expect("a file in incoming/ starts a run", len(incoming) == 1 and "FileArrived" in incoming[0], incoming)
    other = matching(OBJECT_CREATED, file("archive/a.csv")) + matching(OBJECT_CREATED, file("runs/r/train/a.parquet"))
    system.expect("files elsewhere do not", not other, other)
    landed = matching(TABLE_CHANGED, {"databaseName": LANDING_DATABASE, "changedTables": ["t"]})
    system.expect("a table of another team starts a run", len(landed) == 1 and "TableLoaded" in landed[0], landed)
    own = matching(TABLE_CHANGED, {"databaseName": DATABASE, "changedTables": ["features"]})
    system.expect("changes of our own tables do not", not own, own)


def _check_responses(system: DeployedSystem) -> None:
    """Test events, passed to the functions directly."""
    event = {**OBJECT_CREATED, "detail": {"object": {"key": "incoming/verify-nothing.csv"}}}
    response, failed = _invoke(system, "StartRun", {"Records": [_sqs_record(event)]})
    waiting = [entry.key for entry in system.home.entries("incoming/")]
    right = response.get("started") == "" if not waiting else "reason" in response
    system.expect("StartRun starts nothing where nothing waits", not failed and right, response)
    response, failed = _invoke(system, "ModelAge", {"Records": []})
    latest = system.registry.latest()
    right = (response.get("days") is None) == (latest is None)
    system.expect("ModelAge gives the serving model's age", not failed and right, response)
    request = {"home": system.outputs[Output.HOME_URL], "version": "none", "run": "verify"}
    response, failed = _invoke(system, "Promote", request)
    system.expect("Promote refuses a version that does not exist", failed, response)
    after = system.registry.latest()
    system.expect("and leaves latest.json as it was", after == latest, after)


def _sqs_record(event: dict[str, Any]) -> dict[str, Any]:
    """An event as SQS passes it to a function."""
    return {"messageId": "verify", "body": json.dumps(event), "attributes": {"ApproximateReceiveCount": "1"}}


def _invoke(system: DeployedSystem, name: str, event: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Invoke a function; returns its response, and whether it failed."""
    answer = client("lambda", read=70.0).invoke(FunctionName=_function(system, name), Payload=json.dumps(event))
    return json.load(answer["Payload"]) or {}, "FunctionError" in answer
