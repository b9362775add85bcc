"""The keys of the API's callers: a JSON document that holds their digests, never a key itself.

    {"keys": [{"name": "till-1", "sha256": "9f86...", "scopes": ["score"], "created": "2026-03-01T12:00:00+00:00",
               "expires": null, "per_second": null}]}

A key is 256 random bits. Nobody can try so many, so one round of SHA-256 hides it as well as a slow password hash
would, and a request does not wait for it. In a local home the document is `keys.json`; in the cloud it is the value
of a secret in Secrets Manager.
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
MARK = "fraudline_"  # so that a key is known for what it is where it should not be: scanners look for such marks
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
ATTEMPTS = 10  # at a change that others make one in the meantime of
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """One caller's key, as it is kept. `per_second` limits its requests, in place of the server's own limit."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    created: str
    expires: str | None = None
    per_second: float | None = None

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= datetime.fromisoformat(self.expires)


def digest(token: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(token.encode()).hexdigest()


def find(keys: Iterable[Key], token: str, now: datetime) -> Key | None:
    """The valid key that this is; None for any other text. Takes the same time whichever it is."""
    shown, found = digest(token), None
    for key in keys:
        if hmac.compare_digest(key.sha256, shown) and not key.expired(now):
            found = key
    return found


def parse(text: str, source: str) -> tuple[Key, ...]:
    """The keys in a document. Raises BadInput naming the source and the entry, and nothing of the content."""
    try:
        entries = json.loads(text)["keys"]
        keys = tuple(_key(entry) for entry in entries)
    except (ValueError, TypeError, KeyError) as error:
        reason = "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        raise BadInput(f'{source} is no keys document, {{"keys": [...]}}: {reason}') from None
    names = [key.name for key in keys]
    if len(set(names)) < len(names):
        raise BadInput(f"{source} has two keys of one name")
    return keys


def render(keys: Iterable[Key]) -> str:
    """The document of those keys."""
    return json.dumps({"keys": [asdict(key) for key in keys]}, indent=2) + "\n"


def added(
    keys: Sequence[Key],
    name: str,
    scopes: Sequence[str],
    *,
    expires: datetime | None = None,
    per_second: float | None = None,
) -> tuple[tuple[Key, ...], str]:
    """The keys with one more, and that one's token, which is nowhere else. Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(f"{name!r} is no name for a key: use small letters, digits, '.', '_' and '-', at most 64")
    if any(key.name == name for key in keys):
        raise BadInput(
            f"there is a key named {name!r}; to rotate it, add another one, move its callers, revoke this one"
        )
    if not scopes or not set(scopes) <= set(SCOPES):
        raise BadInput(
            f"a key needs one or more of the scopes {', '.join(SCOPES)}; given: {', '.join(scopes) or 'none'}"
        )
    now = datetime.now(UTC)
    if expires is not None and expires <= now:
        raise BadInput(f"the key would have expired already, at {expires.isoformat()}")
    token = MARK + secrets.token_urlsafe(32)
    until = expires.astimezone(UTC).isoformat() if expires else None
    new = Key(name, digest(token), tuple(dict.fromkeys(scopes)), now.isoformat(timespec="seconds"), until, per_second)
    return (*keys, new), token


def revoked(keys: Sequence[Key], name: str) -> tuple[Key, ...]:
    """The keys without one. Raises NotFound."""
    if all(key.name != name for key in keys):
        raise NotFound(f"there is no key named {name!r}; there are: {', '.join(key.name for key in keys) or 'none'}")
    return tuple(key for key in keys if key.name != name)


def edit(place: "HomeKeys | SecretKeys", change: Callable[[tuple[Key, ...]], Iterable[Key]]) -> None:
    """Change the keys of a place; anew from what is there then, if someone else changes them at the same time.

    Raises what the change raises, and Conflict if others were quicker all the time.
    """
    for left in reversed(range(ATTEMPTS)):
        keys, tag = place.read()
        try:
            place.write(change(keys), tag)
            break
        except Conflict:
            if not left:
                raise


class HomeKeys:
    """The keys document of a home. A change that another one came before is refused with Conflict."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def read(self) -> tuple[tuple[Key, ...], str | None]:
        """The keys, and the document's tag for `write`; none and None when there is no document."""
        try:
            text, tag = self.home.read_tagged(KEYS_KEY)
        except NotFound:
            return (), None
        return parse(text.decode(errors="replace"), self.home.url_of(KEYS_KEY)), tag

    def write(self, keys: Iterable[Key], tag: str | None) -> None:
        """Store the keys, if the document is still the one that was read."""
        self.home.write_if(KEYS_KEY, render(keys).encode(), tag)


class SecretKeys:
    """The keys document in a secret of Secrets Manager."""

    def __init__(self, arn: str) -> None:
        self.arn = arn

    def read(self) -> tuple[tuple[Key, ...], str | None]:
        """The keys, and the version of the secret that holds them."""
        answer = self._call("get_secret_value")
        return parse(answer["SecretString"], f"the secret {self.arn}"), str(answer["VersionId"])

    def write(self, keys: Iterable[Key], tag: str | None) -> None:
        """Store the keys, if the secret's value is still the version that was read.

        No call stores a value on that condition, but one moves the label AWSCURRENT on it: so the value is stored under
        a label of its own first.
        """
        label = f"fraudline-{secrets.token_hex(8)}"
        made = self._call("put_secret_value", SecretString=render(keys), VersionStages=[label])["VersionId"]
        move = {"MoveToVersionId": made, "RemoveFromVersionId": str(tag)}
        try:
            self._call("update_secret_version_stage", VersionStage="AWSCURRENT", **move)
        except FraudlineError:
            if self._call("get_secret_value")["VersionId"] != tag:
                raise Conflict(f"the secret {self.arn} was changed by someone else meanwhile; try again") from None
            raise
        finally:  # a version without a label is dropped by the service in time
            self._call("update_secret_version_stage", VersionStage=label, RemoveFromVersionId=made)

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        from processing.aws_client import client, refusal

        try:
            answer: dict[str, Any] = getattr(client("secretsmanager"), operation)(SecretId=self.arn, **arguments)
        except (ClientError, BotoCoreError) as error:
            call = f"secretsmanager:{''.join(word.capitalize() for word in operation.split('_'))}"
            check = "that you may read and write this one secret"
            raise FraudlineError(refusal(error, call, f"the secret {self.arn}", check)) from error
        return answer


def _key(entry: Any) -> Key:
    key = Key(**(entry | {"scopes": tuple(entry["scopes"])}))
    if not NAME.fullmatch(key.name):
        raise ValueError("a key has no proper name")
    if not DIGEST.fullmatch(key.sha256):
        raise ValueError(f"the key {key.name!r} has no SHA-256 digest")
    if not set(key.scopes) <= set(SCOPES):
        raise ValueError(f"the key {key.name!r} has scopes other than {', '.join(SCOPES)}")
    if key.expires is not None and datetime.fromisoformat(key.expires).tzinfo is None:
        raise ValueError(f"the key {key.name!r} expires at a time without a zone")
    if key.per_second is not None and not key.per_second > 0:
        raise ValueError(f"the key {key.name!r} may not ask at all: per_second is {key.per_second}")
    return key
