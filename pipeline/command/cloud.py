"""`fraudline deploy`, `destroy` and `verify`: the system in AWS."""

import subprocess
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.command.interrupt import stoppable
from processing.errors import BadInput, FraudlineError

TESTS = Path(__file__).parents[2] / "tests"
SEE = "`aws cloudformation describe-stacks` tells when it has ended"
YesOption = Annotated[bool, typer.Option("--yes", help="Go on without asking.")]


def deploy(
    image_tag: Annotated[
        str | None, typer.Option(help="Tag of the pushed image that all parts use from now on.")
    ] = None,
    contract: Annotated[
        str | None, typer.Option(envvar="FRAUDLINE_CONTRACT", help="For a new home: a shipped contract's name.")
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(envvar="FRAUDLINE_CERTIFICATE_ARN", help="ARN of the load balancer's certificate, for https."),
    ] = None,
    clients: Annotated[
        str | None, typer.Option(envvar="FRAUDLINE_CLIENTS", help="Who may call the API: CIDR blocks, with commas.")
    ] = None,
    email: Annotated[
        str | None, typer.Option(envvar="FRAUDLINE_ALARM_EMAIL", help="Who is written to when an alarm goes off.")
    ] = None,
    zones: Annotated[
        str | None,
        typer.Option(envvar="FRAUDLINE_ZONES", help="Two availability zones, with a comma; else the account is asked."),
    ] = None,
    allow_joblib: Annotated[
        bool | None,
        typer.Option(
            "--allow-joblib/--no-allow-joblib",
            envvar="FRAUDLINE_ALLOW_JOBLIB",
            help="Also load models that cannot be packed; a joblib model runs code that training made.",
        ),
    ] = None,
    bootstrap: Annotated[bool, typer.Option("--bootstrap", help="Prepare account and region first, once.")] = False,
    yes: YesOption = False,
) -> None:
    """Deploy to AWS, or bring what is deployed up to date: shows the difference, asks, deploys.

    What is not given stays as it is deployed; `none` takes a setting back to its default.

    Example: fraudline deploy --email team@example.com
    """
    from pipeline.infrastructure import deploy as aws

    target = aws.find_target()
    named = {
        "CONTRACT": contract,
        "CERTIFICATE_ARN": certificate,
        "CLIENTS": clients,
        "ALARM_EMAIL": email,
        "ZONES": zones,
    }
    settings = {f"FRAUDLINE_{name}": value for name, value in named.items() if value}
    if allow_joblib is not None:
        settings["FRAUDLINE_ALLOW_JOBLIB"] = str(allow_joblib).lower()
    with stoppable(f"What CloudFormation had begun goes on, or is rolled back. {SEE}, and deploy again after that."):
        if bootstrap:
            aws.bootstrap(target)
        found = aws.deploy(target, confirm=_asking(yes), image_tag=image_tag, settings=settings)
    if not found:
        raise typer.Exit(1)
    for name in ("HomeUrl", "ApiUrl", "Repository", "PipelineName"):
        typer.echo(f"{name:<13}{found[name]}")


def destroy(yes: YesOption = False) -> None:
    """Take the stack down; what holds data stays, and is named.

    Example: fraudline destroy
    """
    from pipeline.infrastructure import deploy as aws

    with stoppable(f"What CloudFormation had begun goes on. {SEE}, and destroy again if it is still there."):
        gone = aws.destroy(aws.find_target(), confirm=_asking(yes))
    if not gone:
        raise typer.Exit(1)


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Some of: glue_job, ecs_api, lambda_function, iam_roles, end_to_end.")
    ] = None,
) -> None:
    """Check the deployed system part by part; exit code 1 if anything is not as it must be.

    Example: fraudline verify iam_roles glue_job
    """
    known = {path.stem.removeprefix("verify_"): path for path in sorted(TESTS.glob("verify_*.py"))}
    if not known:
        raise FraudlineError(f"the scripts are not here: {TESTS} comes with a clone of the repository")
    for name in names or ():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}? There" if near else "there"
            raise BadInput(f"there is nothing to verify called {name!r}; {hint} are {', '.join(known)}")
    from pipeline.infrastructure import deploy as aws

    aws.deployed(aws.find_target())  # what every check needs: if it is not there, it is said once
    order = names or sorted(known, key=lambda name: name == "end_to_end")  # the longest last
    with stoppable("Nothing was verified to the end; what a check had begun in AWS, it names above."):
        codes = [subprocess.run([sys.executable, str(known[name])]).returncode for name in order]
    if any(codes):
        raise typer.Exit(max(code if code >= 0 else 1 for code in codes))  # less than 0: a signal ended it


def _asking(yes: bool) -> Callable[[str], bool]:
    def ask(question: str) -> bool:
        if yes:
            return True
        if not Console().is_terminal:
            raise BadInput("there is no terminal to ask at: look at the difference, then give --yes")
        return typer.confirm(question)

    return ask
