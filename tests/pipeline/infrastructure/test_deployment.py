"""Deploying: what an account must offer, which settings a redeployment keeps, and what the errors say."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from pipeline.infrastructure import account, aws_errors, cdk, deploy, target
from pipeline.infrastructure.deployment import NAMES, NONE, PREFIX, SETTINGS_OUTPUT, Deployment, from_settings, merged
from pipeline.infrastructure.names import DATABASES
from processing.errors import BadInput, FraudlineError

ACCOUNT, REGION = "111122223333", "ap-northeast-1"
ZONES = (f"{REGION}a", f"{REGION}c")
KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": REGION}


class Answers:
    """AWS clients that answer in a given order and check requests against the service models."""

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}
        self.stubs: dict[str, Stubber] = {}

    def __call__(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = boto3.client(service, **KEYS)  # type: ignore[call-overload]
            self.stubs[service] = Stubber(self.clients[service])
            self.stubs[service].activate()
        return self.clients[service]

    def answers(self, service: str, operation: str, answer: dict[str, Any]) -> None:
        self(service)
        self.stubs[service].add_response(operation, answer)

    def refuses(self, service: str, operation: str, code: str, message: str = "no") -> None:
        self(service)
        self.stubs[service].add_client_error(operation, code, message)


@pytest.fixture
def aws() -> Answers:
    return Answers()


def offer(aws: Answers, zones: dict[str, str], endpoints: dict[str, list[str]] | None = None) -> None:
    """Give the account these zones (letter to zone id) and these endpoints, by default each one in every zone."""
    availability_zones = [{"ZoneName": f"{REGION}{letter}", "ZoneId": number} for letter, number in zones.items()]
    local = {"ZoneName": f"{REGION}-tpe-1a", "ZoneId": "apne1-tpe1-az1", "ZoneType": "local-zone"}
    aws.answers("ec2", "describe_availability_zones", {"AvailabilityZones": [local, *availability_zones]})
    offered = endpoints or {name: list(zones) for name in account.ENDPOINTS}
    services = [
        {"ServiceName": f"com.amazonaws.{REGION}.{name}", "AvailabilityZones": [f"{REGION}{one}" for one in letters]}
        for name, letters in offered.items()
    ]
    aws.answers("ec2", "describe_vpc_endpoint_services", {"ServiceDetails": services})


def test_the_chosen_zones_have_everything_the_stack_needs(aws: Answers) -> None:
    offer(aws, {"a": "apne1-az4", "c": "apne1-az1", "d": "apne1-az2"})  # most accounts do not see zone b in Tokyo
    assert account.choose_zones(aws, REGION) == (f"{REGION}a", f"{REGION}c")
    offer(aws, {"a": "apne1-az3", "c": "apne1-az1", "d": "apne1-az2"})  # Fargate is not in az3
    assert account.choose_zones(aws, REGION) == (f"{REGION}c", f"{REGION}d")
    some = {name: ["a", "c", "d"] for name in account.ENDPOINTS} | {"ecr.dkr": ["a", "d"]}
    offer(aws, {"a": "apne1-az4", "c": "apne1-az1", "d": "apne1-az2"}, some)
    assert account.choose_zones(aws, REGION) == (f"{REGION}a", f"{REGION}d")


def test_without_two_suitable_zones_or_permission_to_list_them_the_error_says_what_to_do(aws: Answers) -> None:
    offer(aws, {"a": "apne1-az4"})
    with pytest.raises(FraudlineError, match=r"no 2 zones in ap-northeast-1 .*deploy to another region"):
        account.choose_zones(aws, REGION)
    aws.refuses("ec2", "describe_availability_zones", "UnauthorizedOperation")
    with pytest.raises(FraudlineError, match=f"--zones {REGION}a,{REGION}b"):
        account.choose_zones(aws, REGION)


def test_service_linked_roles_are_created_before_the_first_deployment(aws: Answers) -> None:
    lines: list[str] = []
    role = {"Role": dict.fromkeys(("Path", "RoleName", "RoleId", "Arn"), "x" * 20) | {"CreateDate": "2026-01-01"}}
    aws.answers("iam", "create_service_linked_role", role)
    exists = "Service role name AWSServiceRoleForApplicationAutoScaling_ECSService has been taken in this account"
    aws.refuses("iam", "create_service_linked_role", "InvalidInput", exists)
    aws.refuses("iam", "create_service_linked_role", "AccessDenied")
    assert account.create_linked_roles(aws, lines.append, settle_seconds=0) == ["ecs.amazonaws.com"]
    assert "--aws-service-name elasticloadbalancing.amazonaws.com" in lines[0]  # not permitted
    assert "ecs.amazonaws.com" in lines[1]


def test_an_existing_database_of_an_earlier_stack_is_reported_before_deploying(aws: Answers) -> None:
    aws.refuses("glue", "get_database", "EntityNotFoundException")
    aws.answers("glue", "get_database", {"Database": {"Name": "fraudline_landing", "LocationUri": "s3://old/incoming"}})
    with pytest.raises(BadInput, match="'fraudline_landing', of s3://old/incoming, already exists"):
        account.check_databases(aws, DATABASES)


def test_an_image_that_was_never_pushed_is_refused(aws: Answers) -> None:
    repository = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/fraudline/images"
    aws.answers("ecr", "describe_images", {"imageDetails": [{"imageTags": ["0a1b2c3"]}]})
    account.check_image(aws, repository, "0a1b2c3")
    aws.refuses("ecr", "describe_images", "ImageNotFoundException")
    with pytest.raises(BadInput, match=r"no image '0a1b2c3' in .*push it first"):
        account.check_image(aws, repository, "0a1b2c3")


words = st.text("abcdefghij0123456789.:/-", min_size=1, max_size=20).filter(lambda text: text != NONE)
deployments = st.builds(
    Deployment,
    account=st.just(ACCOUNT),
    region=st.just(REGION),
    zones=st.just(ZONES),
    contract=words,
    certificate_arn=st.none() | words,
    clients=st.lists(words, min_size=1, max_size=3).map(tuple),
    alarm_email=st.none() | words,
    event_sources=st.lists(words, max_size=2).map(tuple),
    settle_seconds=st.integers(0, 900),
    allow_joblib=st.booleans(),
)


@given(deployments, st.sets(st.sampled_from([name for name in NAMES if name != "ZONES"])), deployments)
def test_omitted_settings_keep_their_deployed_values(before: Deployment, changed: set[str], other: Deployment) -> None:
    assert from_settings(ACCOUNT, REGION, before.settings()) == before
    changes = {PREFIX + name: other.settings().get(PREFIX + name, NONE) for name in changed}  # NONE: the default
    after = from_settings(ACCOUNT, REGION, merged(changes, {SETTINGS_OUTPUT: json.dumps(before.settings())}))
    for name in NAMES:
        source = other if name in changed else before
        assert after.settings().get(PREFIX + name) == source.settings().get(PREFIX + name)


def test_a_stack_without_recorded_settings_requires_those_that_could_lock_callers_out() -> None:
    outputs = {"ApiUrl": "https://balancer"}
    with pytest.raises(BadInput, match=r"--certificate .* --clients .* --email") as refused:
        merged({}, outputs)
    assert "`none`" in str(refused.value)
    settings = {f"{PREFIX}CERTIFICATE_ARN": "arn", f"{PREFIX}CLIENTS": NONE, f"{PREFIX}ALARM_EMAIL": NONE}
    assert merged(settings, outputs) == settings
    assert merged({}, {}) == {}  # the first deployment


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SETTLE_SECONDS", "1e3", "a whole number of seconds"),
        ("ALLOW_JOBLIB", "yes", "expected true or false"),
        ("ZONES", f"{REGION}a", "name two availability zones of ap-northeast-1"),
    ],
)
def test_an_invalid_setting_is_reported_by_name(name: str, value: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"FRAUDLINE_{name} is '{value}'.*{message}"):
        from_settings(ACCOUNT, REGION, {f"{PREFIX}ZONES": ",".join(ZONES), PREFIX + name: value})


def test_the_desired_number_of_tasks_is_read_from_the_service(aws: Answers) -> None:
    outputs = {"ClusterName": "c", "ServiceName": "s"}
    aws.answers("ecs", "describe_services", {"services": [{"desiredCount": 7, "status": "ACTIVE"}]})
    assert deploy.desired_tasks(aws, outputs) == 7
    aws.answers("ecs", "describe_services", {"services": [{"desiredCount": 2, "status": "INACTIVE"}]})
    assert deploy.desired_tasks(aws, outputs) == 0
    assert deploy.desired_tasks(aws, {}) == 0


def test_an_unexpected_access_denial_is_an_error(aws: Answers) -> None:
    aws.refuses("glue", "get_database", "AccessDeniedException", "not authorized to perform: glue:GetDatabase")
    with pytest.raises(FraudlineError, match="lack a permission"):
        aws_errors.call_aws(account.check_databases, clients=aws, names=DATABASES)


@pytest.mark.parametrize(
    ("output", "explanation"),
    [
        ("ExpiredToken: The security token included in the request is expired", "have expired"),
        ("Unable to resolve AWS account to use.", "credentials are missing"),
        ("SSM parameter /cdk-bootstrap/hnb659fds/version not found.", "deploy --bootstrap"),
        ("Fraudline: The maximum number of VPCs has been reached. (VpcLimitExceeded)", "Service Quotas"),
        ("User: arn:aws:iam::1:user/x is not authorized to perform: cloudformation:X", "lack a permission"),
        ("npm error code ENOTFOUND", "network"),
        ("\x1b[31man unknown error\x1b[0m", "failed.\nan unknown error"),
    ],
)
def test_a_failed_deployment_explains_the_cause(output: str, explanation: str) -> None:
    assert explanation in aws_errors.explain(output, "it failed")


def test_without_a_region_or_credentials_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(FraudlineError, match="no AWS region is set"):
        target.find_target()
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with pytest.raises(FraudlineError, match="credentials are missing"):
        target.find_target()


@pytest.mark.cloud
def test_synthesizing_needs_an_account_and_a_region() -> None:
    environment: Mapping[str, str] = {"PATH": os.environ["PATH"], **cdk.node_environment()}
    app = subprocess.run(
        [sys.executable, "-m", "pipeline.infrastructure.cdk_app"], env=environment, capture_output=True, text=True
    )
    assert app.returncode == 2
    assert "no AWS account and region" in app.stderr
