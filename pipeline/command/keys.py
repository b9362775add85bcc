"""`fraudline keys`: who may ask the API."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home
from pipeline.registry.api_keys import SCOPES, HomeKeys, Key, SecretKeys, added, edit, revoked
from processing.errors import BadInput
from processing.storage.local import LocalHome

HELP = """The keys of the API's callers: add, list, revoke.

Example: fraudline keys add till-1 --scope score
"""

app = typer.Typer(no_args_is_help=True, help=HELP)

SecretOption = Annotated[
    str | None,
    typer.Option(
        help="The ARN of the secret that holds the keys, for an API in the cloud (the stack's ApiKeysSecret)."
    ),
]
RESTART = (
    "The API reads the secret when its tasks start. Have it start new ones: "
    "aws ecs update-service --cluster CLUSTER --service SERVICE --force-new-deployment"
)


@app.command("add")
def add_key(
    name: str,
    scope: Annotated[list[str], typer.Option(help=f"One of {', '.join(SCOPES)}; may be given again.")],
    expires: Annotated[str | None, typer.Option(help="The day from which on it is refused (UTC).")] = None,
    per_second: Annotated[float | None, typer.Option(min=0.01, help="A limit of requests of its own.")] = None,
    home: HomeOption = DEFAULT_HOME,
    secret: SecretOption = None,
) -> None:
    """Make a key and print it, once: only its digest is kept.

    Example: fraudline keys add till-1 --scope score --expires 2027-01-01
    """
    place = _place(home, secret)
    tokens = []

    def with_another(keys: tuple[Key, ...]) -> tuple[Key, ...]:
        more, token = added(keys, name, scope, expires=_day(expires), per_second=per_second)
        tokens.append(token)
        return more

    edit(place, with_another)
    typer.echo(tokens[-1])
    _say(f"The line above is the key {name!r}, for {', '.join(scope)}. It is not shown again.", secret)


@app.command("list")
def list_keys(
    home: HomeOption = DEFAULT_HOME,
    secret: SecretOption = None,
    as_json: JsonOption = False,
) -> None:
    """All keys, without what would let one in.

    Example: fraudline keys list
    """
    keys, _ = _place(home, secret).read()
    if as_json:
        shown = [{name: value for name, value in asdict(key).items() if name != "sha256"} for key in keys]
        typer.echo(json.dumps(shown, indent=2))
        return
    table = Table("name", "scopes", "created", "expires", "requests a second", box=None, pad_edge=False)
    now = datetime.now(UTC)
    for key in keys:
        until = f"{key.expires} (over)" if key.expired(now) else key.expires or "never"
        limit = "the server's" if key.per_second is None else f"{key.per_second:g}"
        table.add_row(key.name, ", ".join(key.scopes), key.created, until, limit)
    Console().print(table)


@app.command("revoke")
def revoke_key(name: str, home: HomeOption = DEFAULT_HOME, secret: SecretOption = None) -> None:
    """Let a key in no more.

    Example: fraudline keys revoke till-1
    """
    place = _place(home, secret)
    edit(place, lambda keys: revoked(keys, name))
    _say(f"The key {name!r} is revoked.", secret)


def _place(home: str, secret: str | None) -> HomeKeys | SecretKeys:
    if secret:
        return SecretKeys(secret)
    place = existing_home(home)
    if not isinstance(place, LocalHome):
        raise BadInput(f"the keys of the API over {place.url} are in a secret: name it with --secret ARN")
    return HomeKeys(place)


def _say(done: str, secret: str | None) -> None:
    said = f"{done} {RESTART if secret else 'A running API follows within seconds.'}"
    Console(stderr=True).print(said, highlight=False, soft_wrap=True)


def _day(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--expires {text}: expected a date such as 2027-01-01") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
