"""The settings of a deployment, and how a deployed stack records them.

A setting is a `FRAUDLINE_*` variable. `fraudline deploy` passes them to the CDK's app, and the stack records them in
its output `Settings`, so that a later deployment keeps those that it is not given.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processing.errors import BadInput

PREFIX = "FRAUDLINE_"
SETTINGS_OUTPUT = "Settings"  # the output of the stack that records them
NONE = "none"  # resets a setting to its default
CIDR = "10.42.0.0/16"  # the stack's own network
MAX_SETTLE_SECONDS = 900
LEAVE_TASKS = "-1"  # as the stack's parameter StartTasks: the service keeps as many tasks as it has
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
    contract: the shipped contract for a new home; an initialised home keeps the one it has
    certificate_arn: the load balancer's certificate; without one it serves plain http inside the network
    clients: CIDR blocks that may call the API; by default the stack's own network
    alarm_email: the address that alarms are sent to
    event_sources: further event sources, for an emulator
    settle_seconds: how long to wait for the rest of a burst of files before a run starts
    allow_joblib: whether evaluation and the API also load models that are not packed; loading those runs code
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
        values = {
            "ALARM_EMAIL": self.alarm_email or "",
            "ALLOW_JOBLIB": "true" if self.allow_joblib else "",
            "CERTIFICATE_ARN": self.certificate_arn or "",
            "CLIENTS": ",".join(self.clients if self.clients != Deployment.clients else ()),
            "CONTRACT": self.contract if self.contract != Deployment.contract else "",
            "EVENT_SOURCES": ",".join(self.event_sources),
            "SETTLE_SECONDS": str(self.settle_seconds) if self.settle_seconds != Deployment.settle_seconds else "",
            "ZONES": ",".join(self.zones),
        }
        return {PREFIX + name: value for name, value in values.items() if value}


def from_settings(account: str | None, region: str | None, variables: Mapping[str, str]) -> Deployment:
    """The deployment that variables describe. Raises BadInput naming the variable and what it may be."""
    if not account or not region:
        raise BadInput("no AWS account and region to deploy to: set AWS credentials and AWS_REGION, and try again")

    def setting(name: str) -> str | None:
        value = variables.get(PREFIX + name)
        return None if value in (None, "", NONE) else value

    def list_setting(name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in (setting(name) or "").split(",") if part.strip())

    seconds = setting("SETTLE_SECONDS") or str(Deployment.settle_seconds)
    if not seconds.isdecimal() or int(seconds) > MAX_SETTLE_SECONDS:
        allowed = f"give a whole number of seconds, at most {MAX_SETTLE_SECONDS}"
        raise BadInput(f"{PREFIX}SETTLE_SECONDS is {seconds!r}: {allowed}")
    joblib = setting("ALLOW_JOBLIB") or "false"
    if joblib not in ("true", "false"):
        raise BadInput(f"{PREFIX}ALLOW_JOBLIB is {joblib!r}, expected true or false")
    zones = list_setting("ZONES")
    if len(set(zones)) < 2:
        raise BadInput(
            f"{PREFIX}ZONES is {variables.get(PREFIX + 'ZONES', '')!r}: name two availability zones of {region} that "
            f"the account has, e.g. {region}a,{region}b; by default `fraudline deploy` chooses them"
        )
    return Deployment(
        account=account,
        region=region,
        zones=zones,
        contract=setting("CONTRACT") or Deployment.contract,
        certificate_arn=setting("CERTIFICATE_ARN"),
        clients=list_setting("CLIENTS") or Deployment.clients,
        alarm_email=setting("ALARM_EMAIL"),
        event_sources=list_setting("EVENT_SOURCES"),
        settle_seconds=int(seconds),
        allow_joblib=joblib == "true",
    )


def merged(new: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, str]:
    """The settings of the next deployment: the new ones, and for the others those of the deployed stack.

    outputs: the deployed stack's. A value of `none` resets a setting to its default. Raises BadInput for a stack that
    an earlier version of Fraudline deployed without recording settings, unless `new` has those that could lock callers
    out.
    """
    if outputs and SETTINGS_OUTPUT not in outputs:
        unknown = [name for name in ("CERTIFICATE_ARN", "CLIENTS", "ALARM_EMAIL") if PREFIX + name not in new]
        if unknown:
            options = " ".join(f"--{name.lower().removesuffix('_arn').replace('alarm_', '')} ..." for name in unknown)
            raise BadInput(
                "the deployed stack does not record its settings, because an earlier version of Fraudline deployed it. "
                f"Give them once, as they were then: {options}; use `{NONE}` for a setting it did not have"
            )
    recorded: dict[str, Any] = json.loads(outputs[SETTINGS_OUTPUT]) if SETTINGS_OUTPUT in outputs else {}
    known = {PREFIX + name for name in NAMES}
    return {name: str(value) for name, value in {**recorded, **new}.items() if name in known and value != ""}
