"""API keys: a JSON document that holds their digests, never a key itself.

    {"keys": [{"name": "till-1", "sha256": "9f86...", "scopes": ["score"], "created": "2026-03-01T12:00:00+00:00",
               "expires": null, "per_second": null}]}

A key is 256 random bits, far too many to guess, so one round of SHA-256 hides it as well as a slow password hash would,
and requests stay fast. In a local home the document is `keys.json`; in the cloud it is the value of a secret in Secrets
Manager.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from processing.errors import BadInput, Conflict, FraudlineError, NotFound
from processing.storage.home import Home

KEYS_KEY = "keys.json"
SCOPES = ("score", "feedback", "admin")
PREFIX = "fraudline_"  # lets secret scanners recognise a leaked key
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
ATTEMPTS = 10  # of a change that conflicts with others
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """One caller's key, as it is stored. `per_second` limits its requests and replaces the server's own limit."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    created: str
    expires: str | None = None
    per_second: float | None = None

    def expired(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.expires is not None and now >= datetime.fromisoformat(self.expires)


def digest(token: str) -> str:
    """The digest that is stored of a key."""
    return hashlib.sha256(token.encode()).hexdigest()


def find_key(keys: Iterable[Key], token: str, now: datetime) -> Key | None:
    """The valid key with this token, else None. Takes the same time for every key."""
    token_digest, match = digest(token), None
    for key in keys:
        if hmac.compare_digest(key.sha256, token_digest) and not key.expired(now):
            match = key
    return match


def parse_keys(text: str, source: str) -> tuple[Key, ...]:
    """The keys in a document. Raises BadInput naming the source and the entry, but none of the content."""
    try:
        entries = json.loads(text)["keys"]
        keys = tuple(_key(entry) for entry in entries)
    except (ValueError, TypeError, KeyError) as error:
        reason = "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        raise BadInput(f'{source} is not a keys document, {{"keys": [...]}}: {reason}') from None
    names = [key.name for key in keys]
    if len(set(names)) < len(names):
        raise BadInput(f"{source} has two keys with one name")
    return keys


def render_keys(keys: Iterable[Key]) -> str:
    """The document that holds the keys."""
    return json.dumps({"keys": [asdict(key) for key in keys]}, indent=2) + "\n"


def keys_with_new(
    keys: Sequence[Key],
    name: str,
    scopes: Sequence[str],
    *,
    expires: datetime | None = None,
    per_second: float | None = None,
) -> tuple[tuple[Key, ...], str]:
    """The keys with a new one, and its token, which is not stored anywhere. Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(f"{name!r} is not a valid key name: use up to 64 lower-case letters, digits, '.', '_' and '-'")
    if any(key.name == name for key in keys):
        raise BadInput(
            f"a key named {name!r} already exists; to rotate it, add another, move its callers, then revoke this one"
        )
    if not scopes or not set(scopes) <= set(SCOPES):
        raise BadInput(f"a key needs one or more of the scopes {', '.join(SCOPES)}, not {', '.join(scopes) or 'none'}")
    now = datetime.now(UTC)
    if expires is not None and expires <= now:
        raise BadInput(f"the key would already have expired, at {expires.isoformat()}")
    token = PREFIX + secrets.token_urlsafe(32)
    until = expires.astimezone(UTC).isoformat() if expires else None
    new = Key(name, digest(token), tuple(dict.fromkeys(scopes)), now.isoformat(timespec="seconds"), until, per_second)
    return (*keys, new), token


def keys_without(keys: Sequence[Key], name: str) -> tuple[Key, ...]:
    """The keys without the named one. Raises NotFound."""
    if all(key.name != name for key in keys):
        raise NotFound(f"there is no key named {name!r}; the keys are: {', '.join(key.name for key in keys) or 'none'}")
    return tuple(key for key in keys if key.name != name)


def edit_keys(store: "HomeKeys | SecretKeys", change: Callable[[tuple[Key, ...]], Iterable[Key]]) -> None:
    """Change the stored keys; if someone else changes them meanwhile, start again from the new ones.

    Raises what `change` raises, and Conflict if others win every time.
    """
    for remaining in reversed(range(ATTEMPTS)):
        keys, tag = store.read()
        try:
            store.write(change(keys), tag)
            break
        except Conflict:
            if not remaining:
                raise


class HomeKeys:
    """The keys document of a home. A write raises Conflict if the document has changed since it was read."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def read(self) -> tuple[tuple[Key, ...], str | None]:
        """The keys, and the document's tag for `write`; no keys and None if there is no document."""
        try:
            text, tag = self.home.read_tagged(KEYS_KEY)
        except NotFound:
            return (), None
        return parse_keys(text.decode(errors="replace"), self.home.url_of(KEYS_KEY)), tag

    def write(self, keys: Iterable[Key], tag: str | None) -> None:
        """Store the keys if the document is still the one that was read."""
        self.home.write_if(KEYS_KEY, render_keys(keys).encode(), tag)


class SecretKeys:
    """The keys document in a secret of Secrets Manager."""

    def __init__(self, arn: str) -> None:
        self.arn = arn

    def read(self) -> tuple[tuple[Key, ...], str | None]:
        """The keys, and the version of the secret that holds them."""
        secret = self._call("get_secret_value")
        return parse_keys(secret["SecretString"], f"the secret {self.arn}"), str(secret["VersionId"])

    def write(self, keys: Iterable[Key], tag: str | None) -> None:
        """Store the keys if the secret's value is still the version that was read.

        No call stores a value on that condition, but moving the label AWSCURRENT can depend on it. So the value is
        first stored under a label of its own.
        """
        label = f"fraudline-{secrets.token_hex(8)}"
        version = self._call("put_secret_value", SecretString=render_keys(keys), VersionStages=[label])["VersionId"]
        move = {"MoveToVersionId": version, "RemoveFromVersionId": str(tag)}
        try:
            self._call("update_secret_version_stage", VersionStage="AWSCURRENT", **move)
        except FraudlineError:
            if self._call("get_secret_value")["VersionId"] != tag:
                raise Conflict(f"the secret {self.arn} was changed by another writer; try again") from None
            raise
        finally:  # the service deletes versions without a label in time
            self._call("update_secret_version_stage", VersionStage=label, RemoveFromVersionId=version)

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        from processing.aws_client import client, refusal

        try:
            response: dict[str, Any] = getattr(client("secretsmanager"), operation)(SecretId=self.arn, **arguments)
        except (ClientError, BotoCoreError) as error:
            call = f"secretsmanager:{''.join(word.capitalize() for word in operation.split('_'))}"
            check = "that you may read and write this secret"
            raise FraudlineError(refusal(error, call, f"the secret {self.arn}", check)) from error
        return response


def _key(entry: Any) -> Key:
    key = Key(**(entry | {"scopes": tuple(entry["scopes"])}))
    if not NAME.fullmatch(key.name):
        raise ValueError("a key has no valid name")
    if not DIGEST.fullmatch(key.sha256):
        raise ValueError(f"the key {key.name!r} has no SHA-256 digest")
    if not set(key.scopes) <= set(SCOPES):
        raise ValueError(f"the key {key.name!r} has scopes other than {', '.join(SCOPES)}")
    if key.expires is not None and datetime.fromisoformat(key.expires).tzinfo is None:
        raise ValueError(f"the key {key.name!r} expires at a time without a time zone")
    if key.per_second is not None and not key.per_second > 0:
        raise ValueError(f"the key {key.name!r} could send no request: per_second is {key.per_second}")
    return key
