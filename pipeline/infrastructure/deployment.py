"""What a deployment of the stack is told, and how a deployed stack remembers it.

A setting is a `FRAUDLINE_*` variable: `fraudline deploy` hands them to the CDK's app, and the stack keeps them as its
output `Settings`. What a later deployment is not told stays as it was deployed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processing.errors import BadInput

PREFIX = "FRAUDLINE_"
OUTPUT = "Settings"  # of the stack
NONE = "none"  # takes a setting back to its default
CIDR = "10.42.0.0/16"  # of the stack's own network
MAX_SETTLE_SECONDS = 900
LEAVE_TASKS = "-1"  # the stack's parameter StartTasks, for a service that keeps as many tasks as it has
NAMES = (
    "ALARM_EMAIL",
    "ALLOW_JOBLIB",
    "CERTIFICATE_ARN",
    "CLIENTS",
    "CONTRACT",
    "EVENT_SOURCES",
    "SETTLE_SECONDS",
    "ZONES",
)


@dataclass(frozen=True)
class Deployment:
    """Where and how the stack is deployed.

    zones: the availability zones of the network, two or more
    contract: the shipped contract that the home is begun with; an installation keeps the one it has
    certificate_arn: of the load balancer; without one it speaks plain http inside the network
    clients: who may call the API, as CIDR blocks; the stack's own network if none are given
    alarm_email: who is told of alarms
    event_sources: further sources of events, for an emulator
    settle_seconds: how long a burst of files is waited for before a run starts
    allow_joblib: whether evaluation and the API also load models that are not packed, which run as code
    """

    account: str
    region: str
    zones: tuple[str, ...]
    contract: str = "transactions"
    certificate_arn: str | None = None
    clients: tuple[str, ...] = (CIDR,)
    alarm_email: str | None = None
    max_glue_workers: int = 10
    event_sources: tuple[str, ...] = ()
    settle_seconds: int = 60
    allow_joblib: bool = False

    def settings(self) -> dict[str, str]:
        """The settings that differ from the defaults, as `from_settings` reads them."""
        told = {
            "ALARM_EMAIL": self.alarm_email or "",
            "ALLOW_JOBLIB": "true" if self.allow_joblib else "",
            "CERTIFICATE_ARN": self.certificate_arn or "",
            "CLIENTS": ",".join(self.clients if self.clients != Deployment.clients else ()),
            "CONTRACT": self.contract if self.contract != Deployment.contract else "",
            "EVENT_SOURCES": ",".join(self.event_sources),
            "SETTLE_SECONDS": str(self.settle_seconds) if self.settle_seconds != Deployment.settle_seconds else "",
            "ZONES": ",".join(self.zones),
        }
        return {PREFIX + name: value for name, value in told.items() if value}


def from_settings(account: str | None, region: str | None, variables: Mapping[str, str]) -> Deployment:
    """The deployment that variables describe. Raises BadInput naming the variable and what it may be."""
    if not account or not region:
        raise BadInput("no AWS account and region to deploy to: set AWS credentials and AWS_REGION, and try again")

    def given(name: str) -> str | None:
        value = variables.get(PREFIX + name)
        return None if value in (None, "", NONE) else value

    def listed(name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in (given(name) or "").split(",") if part.strip())

    seconds = given("SETTLE_SECONDS") or str(Deployment.settle_seconds)
    if not seconds.isdecimal() or int(seconds) > MAX_SETTLE_SECONDS:
        allowed = f"give a whole number of seconds, {MAX_SETTLE_SECONDS} at most"
        raise BadInput(f"{PREFIX}SETTLE_SECONDS is {seconds!r}: {allowed}")
    joblib = given("ALLOW_JOBLIB") or "false"
    if joblib not in ("true", "false"):
        raise BadInput(f"{PREFIX}ALLOW_JOBLIB is {joblib!r}, expected true or false")
    zones = listed("ZONES")
    if len(set(zones)) < 2:
        raise BadInput(
            f"{PREFIX}ZONES is {variables.get(PREFIX + 'ZONES', '')!r}: name two availability zones of {region} that "
            f"the account has, e.g. {region}a,{region}b; `fraudline deploy` asks the account for them"
        )
    return Deployment(
        account=account,
        region=region,
        zones=zones,
        contract=given("CONTRACT") or Deployment.contract,
        certificate_arn=given("CERTIFICATE_ARN"),
        clients=listed("CLIENTS") or Deployment.clients,
        alarm_email=given("ALARM_EMAIL"),
        event_sources=listed("EVENT_SOURCES"),
        settle_seconds=int(seconds),
        allow_joblib=joblib == "true",
    )


def merged(given: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, str]:
    """The settings of the next deployment: those given, else those of the deployed stack, whose outputs these are.

    A value of `none` takes a setting back to its default. Raises BadInput for a stack that was deployed by a version
    of Fraudline which kept no settings, unless what would lock callers out is given.
    """
    if outputs and OUTPUT not in outputs:
        unknown = [name for name in ("CERTIFICATE_ARN", "CLIENTS", "ALARM_EMAIL") if PREFIX + name not in given]
        if unknown:
            options = " ".join(f"--{name.lower().removesuffix('_arn').replace('alarm_', '')} ..." for name in unknown)
            raise BadInput(
                "the deployed stack does not say with which settings it was deployed, as stacks of earlier versions of "
                f"Fraudline do not: give them this once ({options}), as they were then, or `{NONE}` for those that it "
                "had without"
            )
    kept: dict[str, Any] = json.loads(outputs[OUTPUT]) if OUTPUT in outputs else {}
    known = {PREFIX + name for name in NAMES}
    return {name: str(value) for name, value in {**kept, **given}.items() if name in known and value != ""}
