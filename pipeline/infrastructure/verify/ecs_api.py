"""Verify the API on ECS: the service, its task definition, and its response to a test request.

Give the API a key by FRAUDLINE_API_KEY. The load balancer is inside the network: run this there, or through a tunnel
whose address you give as --url. The test transaction has a customer and a terminal of its own, so it counts towards no
real ones.
"""

import argparse
import json
import os
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from typing import Any

from pipeline.infrastructure.names import Output
from pipeline.infrastructure.verify.system import DeployedSystem
from processing.aws_client import client
from processing.contract import Contract
from processing.contracts.example import example_transaction
from processing.contracts.reader import of_home

TIMEOUT_SECONDS = 10.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the check's own options."""
    parser.add_argument("--url", help="address of the API, if not the load balancer's own")


def check(system: DeployedSystem) -> None:
    """The service, the task definition, then requests."""
    with system.asking("the service can be described"):
        _check_service(system)
    with system.asking("the task definition can be described"):
        _check_task_definition(system)
    with system.asking("a test request is answered"):
        _check_responses(system, system.options.url or system.outputs[Output.API_URL])


def _check_service(system: DeployedSystem) -> None:
    cluster, name = system.outputs[Output.CLUSTER_NAME], system.outputs[Output.SERVICE_NAME]
    [service] = client("ecs").describe_services(cluster=cluster, services=[name])["services"]
    system.expect("the service is active", service["status"] == "ACTIVE", service["status"])
    running, desired = service["runningCount"], service["desiredCount"]
    system.expect("all desired tasks are running", running >= desired, f"{running} of {desired}")
    breaker = service.get("deploymentConfiguration", {}).get("deploymentCircuitBreaker", {})
    system.expect("a failed deployment is rolled back", breaker.get("rollback"), breaker)
    network = service["networkConfiguration"]["awsvpcConfiguration"]
    system.expect("tasks have no public address", network.get("assignPublicIp") != "ENABLED", network)
    system.expect("tasks are in two zones", len(network["subnets"]) >= 2, network["subnets"])


def _check_task_definition(system: DeployedSystem) -> None:
    name = system.outputs[Output.TASK_DEFINITION]
    task = client("ecs").describe_task_definition(taskDefinition=name)["taskDefinition"]
    [container] = task["containerDefinitions"]
    for kind, output in (("taskRoleArn", Output.API_TASK_ROLE), ("executionRoleArn", Output.API_EXECUTION_ROLE)):
        system.expect(f"{kind} is its own role", task[kind] == system.outputs[output], task[kind])
    system.expect("its root file system is read-only", container.get("readonlyRootFilesystem"), "it is writable")
    user = container.get("user")
    system.expect("it does not run as root", user not in (None, "", "0", "root"), user)
    variables = {variable["name"]: variable["value"] for variable in container.get("environment", [])}
    for name, output in (("FRAUDLINE_HOME", Output.HOME_URL), ("FRAUDLINE_ONLINE_TABLE", Output.ONLINE_TABLE)):
        system.expect(f"{name} is the deployment's", variables.get(name) == system.outputs[output], variables.get(name))
    secrets, arn = container.get("secrets", []), system.outputs[Output.API_KEYS_SECRET]
    keys = [secret for secret in secrets if secret.get("valueFrom", arn) == arn]  # an emulator may not give its source
    system.expect("its keys come from Secrets Manager", len(keys) == 1, secrets)
    group = container.get("logConfiguration", {}).get("options", {}).get("awslogs-group")
    system.expect("its log goes to CloudWatch", group == system.outputs[Output.API_LOG_GROUP], group)


def _check_responses(system: DeployedSystem, url: str) -> None:
    status, ready = request(url, "/health/ready")
    if not system.expect("the API is ready", status == 200, f"{status} {ready}"):
        return
    latest = system.registry.latest()
    status, model = request(url, "/v1/model")
    right = latest and model.get("version") == latest.version
    system.expect("it serves the latest model", right, f"{status} {model.get('version', model)}, not {latest}")
    transaction = probe_transaction(of_home(system.home))
    status, decision = request(url, "/v1/score", transaction)
    if system.expect("a test transaction is scored", status == 200, f"{status} {decision}"):
        system.expect("the response has a decision", decision.get("decision") in ("fraud", "legit"), decision)
        system.expect("the response has a score", 0 <= decision.get("score", -1) <= 1, decision)
        _, repeated = request(url, "/v1/score", transaction)
        same = repeated == decision | {"repeated": True}
        system.expect("the same transaction gets the same decision again", same, repeated)
    status, problem = request(url, "/v1/score", {"nonsense": True})
    system.expect("nonsense is refused", status == 422, f"{status} {problem}")


def probe_transaction(contract: Contract) -> dict[str, Any]:
    """A transaction that the contract accepts, of entities that no real transaction has."""
    name, now = f"verify-{uuid.uuid4().hex[:12]}", datetime.now(UTC)
    time = {
        "iso": now.isoformat(timespec="seconds"),
        "unix": now.timestamp(),
        "elapsed": (now - contract.time_origin).total_seconds(),
    }[contract.time_format]
    ids = dict.fromkeys([contract.id or "transaction_id", *contract.key_columns], name)
    return example_transaction(contract) | ids | {contract.time: time}


def request(url: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """Send a request; returns status and body, or status 0 and the reason if there is no response."""
    key = os.environ.get("FRAUDLINE_API_KEY")
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    sent = urllib.request.Request(url + path, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(sent, timeout=TIMEOUT_SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError as error:
        return 0, {"no response": f"{error}; {url} can be reached from inside the network only, see --url"}
