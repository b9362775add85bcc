"""`fraudline deploy`, `destroy` and `verify`: the system in AWS."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated

import typer
from rich.console import Console

from pipeline.command.interrupt import stoppable
from processing.errors import BadInput

SEE = "`aws cloudformation describe-stacks` shows when it has ended"
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def deploy(
    image_tag: Annotated[str | None, typer.Option(help="Tag of a pushed image that all parts use from now on.")] = None,
    contract: Annotated[
        str | None, typer.Option(envvar="FRAUDLINE_CONTRACT", help="Shipped contract for a new home.")
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(envvar="FRAUDLINE_CERTIFICATE_ARN", help="ARN of the load balancer's certificate, for https."),
    ] = None,
    clients: Annotated[
        str | None,
        typer.Option(envvar="FRAUDLINE_CLIENTS", help="CIDR blocks that may call the API, separated by commas."),
    ] = None,
    email: Annotated[
        str | None, typer.Option(envvar="FRAUDLINE_ALARM_EMAIL", help="Address that alarms are sent to.")
    ] = None,
    zones: Annotated[
        str | None,
        typer.Option(
            envvar="FRAUDLINE_ZONES", help="Two availability zones, separated by a comma. By default, chosen for you."
        ),
    ] = None,
    allow_joblib: Annotated[
        bool | None,
        typer.Option(
            "--allow-joblib/--no-allow-joblib",
            envvar="FRAUDLINE_ALLOW_JOBLIB",
            help="Also load models that cannot be packed. Loading a joblib model runs code that training wrote.",
        ),
    ] = None,
    bootstrap: Annotated[bool, typer.Option("--bootstrap", help="First prepare account and region, once.")] = False,
    yes: YesOption = False,
) -> None:
    """Deploy to AWS, or update what is deployed: shows the changes and asks for confirmation.

    Settings that are not given stay as they are deployed; `none` resets a setting to its default.

    Example: fraudline deploy --email team@example.com
    """
    from pipeline.infrastructure import deploy as deploying
    from pipeline.infrastructure.names import Output
    from pipeline.infrastructure.target import find_target

    target = find_target()
    options = {
        "CONTRACT": contract,
        "CERTIFICATE_ARN": certificate,
        "CLIENTS": clients,
        "ALARM_EMAIL": email,
        "ZONES": zones,
    }
    settings = {f"FRAUDLINE_{name}": value for name, value in options.items() if value}
    if allow_joblib is not None:
        settings["FRAUDLINE_ALLOW_JOBLIB"] = str(allow_joblib).lower()
    with stoppable(f"CloudFormation completes what it has begun, or rolls it back. {SEE}; then deploy again."):
        if bootstrap:
            deploying.bootstrap(target)
        outputs = deploying.deploy(target, confirm=_confirmation(yes), image_tag=image_tag, settings=settings)
    if not outputs:
        raise typer.Exit(1)
    for name in (Output.HOME_URL, Output.API_URL, Output.REPOSITORY, Output.PIPELINE_NAME):
        typer.echo(f"{name:<13}{outputs[name]}")


def destroy(yes: YesOption = False) -> None:
    """Take the stack down. What holds data stays; the command lists it.

    Example: fraudline destroy
    """
    from pipeline.infrastructure import destroy as destroying
    from pipeline.infrastructure.target import find_target

    with stoppable(
        f"CloudFormation completes what it has begun. {SEE}; if the stack is still there, destroy it again."
    ):
        destroyed = destroying.destroy(find_target(), confirm=_confirmation(yes))
    if not destroyed:
        raise typer.Exit(1)


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Checks to run: ecs_api, glue_job, iam_roles, lambda_function, end_to_end; default: all."),
    ] = None,
) -> None:
    """Check the deployed system part by part; exit code 1 if anything is wrong.

    Example: fraudline verify iam_roles glue_job
    """
    from pipeline.infrastructure.target import deployed_outputs, find_target
    from pipeline.infrastructure.verify import run_check as verifying

    for name in names or ():
        if name not in verifying.CHECKS:
            near = get_close_matches(name, verifying.CHECKS, 1)
            hint = f"did you mean {near[0]!r}? The" if near else "the"
            raise BadInput(f"there is no check {name!r}; {hint} checks are {', '.join(verifying.CHECKS)}")
    outputs = deployed_outputs(find_target())  # every check needs them; an error is reported once
    with stoppable("The checks that were not reached are not listed above."):
        codes = [verifying.run_check(name, outputs=outputs) for name in names or verifying.CHECKS]
    if any(codes):
        raise typer.Exit(max(codes))


def _confirmation(yes: bool) -> Callable[[str], bool]:
    def confirm(question: str) -> bool:
        if yes:
            return True
        if not Console().is_terminal:
            raise BadInput("there is no terminal to ask for confirmation: check the changes, then use --yes")
        return typer.confirm(question)

    return confirm
