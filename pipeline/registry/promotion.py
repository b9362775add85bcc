"""What a promotion or a rollback makes of the pointer, and which promotions are refused.

Imports only the standard library and the home, because it also runs in a Lambda function.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.registry.pointer import REMEMBERED, Latest
from pipeline.registry.versions import CorruptModel, Published, overruled, part_of, waits
from processing.errors import BadInput, Conflict


class AlreadyServing(BadInput):
    """The version to promote already serves."""


@dataclass(frozen=True)
class Promotion:
    """A version to promote: who promotes it and why, and whether that overrules the gate."""

    published: Published
    by: str
    reason: str
    forced: bool

    def change(self, current: Latest | None) -> Latest:
        """The pointer after the promotion. Raises AlreadyServing."""
        version, pin = self.published.version, {self.published.version: self.published.digest}
        if current is None:
            return Latest(version, (), _now(), self.by, self.reason, 1, self.forced, pins=pin)
        if current.version == version and current.pin is not None:
            raise AlreadyServing(f"version {version} already serves, since {current.promoted_at} by {current.by}")
        older = tuple(name for name in (current.version, *current.previous) if name != version)[:REMEMBERED]
        pins, serial = {**current.pins, **pin}, current.serial + 1
        return Latest(version, older, _now(), self.by, self.reason, serial, self.forced, pins=pins)


@dataclass(frozen=True)
class Rollback:
    """The return to the version that served before: `seen` is the pointer when the rollback began."""

    target: Published
    seen: Latest
    by: str
    forced: bool

    def change(self, current: Latest | None) -> Latest:
        """The pointer after the rollback. Raises Conflict if another version was promoted meanwhile."""
        seen, target = self.seen, self.target
        if current is None or (current.version, current.serial) != (seen.version, seen.serial):
            serving = current.version if current else "no version"
            raise Conflict(f"{serving} was promoted in the meantime; nothing was rolled back")
        reason, pins = f"rollback from {seen.version}", {**seen.pins, target.version: target.digest}
        older, serial = seen.previous[1:], seen.serial + 1
        return Latest(target.version, older, _now(), self.by, reason, serial, self.forced, pins=pins)


def check_promotable(published: Published, *, manifest: str | None, force: bool, approved: bool) -> bool:
    """Raise CorruptModel or BadInput if the version may not be promoted; returns whether that overrules the gate.

    manifest: the digest of the manifest that was evaluated, if known
    approved: whether a person approves, which a version that waits for approval needs
    """
    version = published.version
    if manifest is not None and published.digest != manifest:
        raise CorruptModel(
            f"version {version} is not what was evaluated: its manifest has sha256 {published.digest}, evaluation "
            f"published {manifest}; nothing was promoted, run the pipeline again"
        )
    gate = part_of(published.metrics(), "gate")
    rejected, why = overruled(gate), gate.get("reason", "it was never measured")
    if rejected and not force and not gate.get("forced_by"):
        raise BadInput(f"version {version} did not pass the gate: {why}. Use --force to promote it anyway")
    if waits(gate) and not (approved or force):
        raise BadInput(
            f"version {version} waits for a person's approval; `fraudline models promote {version}` approves it. {why}"
        )
    return rejected


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
