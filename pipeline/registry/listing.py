"""The list of a home's versions, with the status of each.

Imports only the standard library and the home, because it also runs in a Lambda function.
"""

from dataclasses import dataclass
from datetime import datetime

from pipeline.registry.pointer import Latest
from pipeline.registry.versions import REPORT_FILE, Version, overruled, part_of, read_published, waits
from processing.errors import Damaged, NotFound
from processing.storage.home import Home

WAITS = "waits for approval"


@dataclass(frozen=True)
class Listed:
    """A version in the list. Its status is serving, previous, candidate, `WAITS`, rejected or damaged.

    reason: what is damaged, or why the gate decided as it did
    notes: what else to know before promoting it, a sentence each
    """

    version: str
    status: str
    created: datetime
    contract: str
    metrics: dict[str, float]
    reason: str
    has_report: bool = False
    notes: tuple[str, ...] = ()


def list_version(home: Home, name: str, latest: Latest | None) -> Listed:
    """A version's entry in the list; `latest` says which version serves and pins the promoted ones."""
    created = Version.parse(name).created
    try:
        published = read_published(home, name, latest.pins.get(name) if latest else None)
        metrics = published.metrics()
    except (Damaged, NotFound) as error:
        return Listed(name, "damaged", created, "", {}, str(error))
    gate = part_of(metrics, "gate")
    return Listed(
        name,
        _status(name, gate, latest),
        created,
        part_of(published.manifest, "contract").get("name", ""),
        part_of(metrics, "metrics"),
        gate.get("reason", ""),
        REPORT_FILE in published.files,
        tuple(map(str, gate.get("notes", ()))),
    )


def _status(name: str, gate: dict[str, object], latest: Latest | None) -> str:
    if latest and name == latest.version:
        return "serving"
    if latest and name in latest.previous:
        return "previous"
    return "rejected" if overruled(gate) else WAITS if waits(gate) else "candidate"
