"""`fraudline keys`: the API keys."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home
from pipeline.registry.api_keys import SCOPES, HomeKeys, Key, SecretKeys, edit_keys, keys_with_new, keys_without
from processing.errors import BadInput
from processing.storage.local import LocalHome

HELP = """Add, list and revoke API keys.

Example: fraudline keys add till-1 --scope score
"""

app = typer.Typer(no_args_is_help=True, help=HELP)

NameArgument = Annotated[str, typer.Argument(help="Name of the key.")]
SecretOption = Annotated[
    str | None,
    typer.Option(help="For an API in AWS: the ARN of the secret that holds its keys (stack output ApiKeysSecret)."),
]
RESTART = (
    "The API reads the secret when its tasks start. To start new ones: "
    "aws ecs update-service --cluster CLUSTER --service SERVICE --force-new-deployment"
)


@app.command("add")
def add_key(
    name: NameArgument,
    scope: Annotated[list[str], typer.Option(help=f"Scope: {', '.join(SCOPES)}; repeatable.")],
    expires: Annotated[str | None, typer.Option(help="Expiry date (UTC).")] = None,
    per_second: Annotated[
        float | None, typer.Option(min=0.01, help="Requests per second for this key. Default: the server's limit.")
    ] = None,
    address: HomeOption = DEFAULT_HOME,
    secret: SecretOption = None,
) -> None:
    """Add a key and print it. It cannot be shown again: only its digest is stored.

    Example: fraudline keys add till-1 --scope score --expires 2027-01-01
    """
    storage = _storage(address, secret)
    tokens = []

    def with_new_key(keys: tuple[Key, ...]) -> tuple[Key, ...]:
        more, token = keys_with_new(keys, name, scope, expires=_expiry(expires), per_second=per_second)
        tokens.append(token)
        return more

    edit_keys(storage, with_new_key)
    typer.echo(tokens[-1])
    _report(f"The line above is the key {name!r}, for {', '.join(scope)}. It cannot be shown again.", secret)


@app.command("list")
def list_keys(
    address: HomeOption = DEFAULT_HOME,
    secret: SecretOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys: their names, scopes, expiry dates and limits.

    Example: fraudline keys list
    """
    keys, _ = _storage(address, secret).read()
    if as_json:
        documents = [{name: value for name, value in asdict(key).items() if name != "sha256"} for key in keys]
        typer.echo(json.dumps(documents, indent=2))
        return
    table = Table("name", "scopes", "created", "expires", "requests per second", box=None, pad_edge=False)
    now = datetime.now(UTC)
    for key in keys:
        expiry = f"{key.expires} (expired)" if key.expired(now) else key.expires or "never"
        limit = "the server's limit" if key.per_second is None else f"{key.per_second:g}"
        table.add_row(key.name, ", ".join(key.scopes), key.created, expiry, limit)
    Console().print(table)


@app.command("revoke")
def revoke_key(name: NameArgument, address: HomeOption = DEFAULT_HOME, secret: SecretOption = None) -> None:
    """Revoke a key.

    Example: fraudline keys revoke till-1
    """
    edit_keys(_storage(address, secret), lambda keys: keys_without(keys, name))
    _report(f"The key {name!r} is revoked.", secret)


def _storage(address: str, secret: str | None) -> HomeKeys | SecretKeys:
    if secret:
        return SecretKeys(secret)
    home = existing_home(address)
    if not isinstance(home, LocalHome):
        raise BadInput(f"the API keys for {home.url} are in a secret: name it with --secret ARN")
    return HomeKeys(home)


def _report(message: str, secret: str | None) -> None:
    effect = RESTART if secret else "A running API picks this up within seconds."
    Console(stderr=True).print(f"{message} {effect}", highlight=False, soft_wrap=True)


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--expires {text}: expected a date such as 2027-01-01") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
