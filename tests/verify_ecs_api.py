"""Verify the API on ECS: the service, its permissions, and the answer to a test request.

    FRAUDLINE_API_KEY=... python tests/verify_ecs_api.py [--url URL]

The load balancer is inside the network: run this from there, or through a tunnel whose address --url names. The test
transaction is of a customer and terminal of its own, so it counts for nobody else.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from typing import Any

from verification import System, verify

from processing.aws_client import client
from processing.contract import Contract
from processing.contracts.reader import of_home

ANSWER_SECONDS = 10.0


def checks(system: System) -> None:
    """The service, the task, then requests."""
    with system.asking("the service can be looked at"):
        running(system)
    with system.asking("the task definition can be looked at"):
        defined(system)
    with system.asking("a test request is answered"):
        answered(system, system.options.url or system.outputs["ApiUrl"])


def running(system: System) -> None:
    """The service and its targets."""
    where = {"cluster": system.outputs["ClusterName"], "services": [system.outputs["ServiceName"]]}
    [service] = client("ecs").describe_services(**where)["services"]
    system.expect("the service is active", service["status"] == "ACTIVE", service["status"])
    tasks = (service["runningCount"], service["desiredCount"])
    system.expect("all tasks that are wanted run", tasks[0] >= tasks[1], "{} of {}".format(*tasks))
    breaker = service.get("deploymentConfiguration", {}).get("deploymentCircuitBreaker", {})
    system.expect("a failed deployment is rolled back", breaker.get("rollback"), breaker)
    network = service["networkConfiguration"]["awsvpcConfiguration"]
    system.expect("tasks have no public address", network.get("assignPublicIp") != "ENABLED", network)
    system.expect("tasks are in two zones", len(network["subnets"]) >= 2, network["subnets"])


def defined(system: System) -> None:
    """The task as it is defined."""
    task = client("ecs").describe_task_definition(taskDefinition=system.outputs["TaskDefinition"])["taskDefinition"]
    [container] = task["containerDefinitions"]
    for kind, output in (("taskRoleArn", "ApiTaskRole"), ("executionRoleArn", "ApiExecutionRole")):
        system.expect(f"{kind} is its own role", task[kind] == system.outputs[output], task[kind])
    system.expect("its root file system is read-only", container.get("readonlyRootFilesystem"), "it can be written to")
    system.expect("it runs as no root", container.get("user") not in (None, "", "0", "root"), container.get("user"))
    given = {each["name"]: each["value"] for each in container.get("environment", [])}
    for name, output in (("FRAUDLINE_HOME", "HomeUrl"), ("FRAUDLINE_ONLINE_TABLE", "OnlineTable")):
        system.expect(f"{name} is the deployment's", given.get(name) == system.outputs[output], given.get(name))
    secrets = container.get("secrets", [])
    ours = system.outputs["ApiKeysSecret"]
    held = [each for each in secrets if each.get("valueFrom", ours) == ours]  # an emulator may not say whence
    system.expect("its keys come from Secrets Manager", len(held) == 1, secrets)
    group = container.get("logConfiguration", {}).get("options", {}).get("awslogs-group")
    system.expect("its log goes to CloudWatch", group == system.outputs["ApiLogGroup"], group)


def answered(system: System, url: str) -> None:
    """Requests over HTTP."""
    status, ready = ask(url, "/health/ready")
    if not system.expect("the API is ready", status == 200, f"{status} {ready}"):
        return
    latest = system.registry.latest()
    status, model = ask(url, "/v1/model")
    right = latest and model.get("version") == latest.version
    system.expect("it serves the latest model", right, f"{status} {model.get('version', model)}, not {latest}")
    sent = transaction(of_home(system.home))
    status, answer = ask(url, "/v1/score", sent)
    if system.expect("a test transaction is decided", status == 200, f"{status} {answer}"):
        system.expect("with a decision", answer.get("decision") in ("fraud", "legit"), answer)
        system.expect("and a score", 0 <= answer.get("score", -1) <= 1, answer)
        _, again = ask(url, "/v1/score", sent)
        system.expect("the same again is told the same", again == answer | {"repeated": True}, again)
    status, told = ask(url, "/v1/score", {"nonsense": True})
    system.expect("nonsense is refused", status == 422, f"{status} {told}")


def transaction(contract: Contract) -> dict[str, Any]:
    """A transaction as the contract has it, of entities that are nobody's."""
    from serving.api.transaction import example_transaction

    sent = example_transaction(contract)
    name = f"verify-{uuid.uuid4().hex[:12]}"
    sent |= {contract.id or "transaction_id": name, **dict.fromkeys((one.column for one in contract.entities), name)}
    now = datetime.now(UTC)
    sent[contract.time] = {
        "iso": now.isoformat(timespec="seconds"),
        "unix": now.timestamp(),
        "elapsed": (now - contract.time_origin).total_seconds(),
    }[contract.time_format]
    return sent


def ask(url: str, path: str, sent: Any = None) -> tuple[int, dict[str, Any]]:
    """The status and the answer; status 0 and why, if nobody answers."""
    key = os.environ.get("FRAUDLINE_API_KEY")
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url + path, None if sent is None else json.dumps(sent).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError as error:
        return 0, {"no answer": f"{error}; {url} is reached from inside the network only, see --url"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", help="where the API answers, if not at the load balancer's own address")
    sys.exit(verify(str(__doc__), checks, parser))
