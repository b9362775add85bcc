"""The entries in which two contracts differ, in words."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from processing.contract import ENTRIES, Contract, DeclaredFeature, Entity

LISTED = ("entities", "numeric", "categorical", "declared")  # fields whose items are compared one by one
Changes = Callable[[str, Any, Any], Iterator[str]]  # from a name and what it stood for before and stands for now


def changed_entries(before: Contract, after: Contract) -> Iterator[str]:
    """Each changed entry, in words."""
    yield from after.changes(before, [name for name in ENTRIES if name not in LISTED])
    yield from _changes("entity", "the entities", _by_name(before.entities), _by_name(after.entities), _entity_changes)
    yield from _list_changes("", "numeric column", before.numeric, after.numeric)
    categories = before.categorical, after.categorical
    yield from _changes("categorical column", "the categorical columns", *categories, _values_changes)
    declared = _by_name(before.declared), _by_name(after.declared)
    yield from _changes("feature", "the declared features", *declared, _declared_changes)


def count_of(names: Collection[str], what: str) -> str:
    """How many there are: "1 feature", "2 features"."""
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def some_of(names: Collection[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    shown = list(names)[:most]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _changes(
    what: str, plural: str, before: Mapping[str, Any], after: Mapping[str, Any], differ: Changes
) -> Iterator[str]:
    """What is new, what differs and what goes; or that only the order is another."""
    for name, now in after.items():
        if name not in before:
            yield f"{what} {name!r} is new{_details(now)}"
        elif now != before[name]:
            yield from differ(name, before[name], now)
    yield from (f"{what} {name!r} goes" for name in before if name not in after)
    if list(before) != list(after) and before == after:
        yield f"{plural} are in another order"


def _list_changes(whose: str, what: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    return _changes(
        f"{whose}{what}", f"{whose}the {what}s", dict.fromkeys(before), dict.fromkeys(after), _values_changes
    )


def _by_name(items: Iterable[Any]) -> dict[str, Any]:
    return {item.name: item for item in items}


def _details(item: Any) -> str:
    match item:
        case Entity():
            return f": {item.identified_by} over {', '.join(item.windows)}"
        case DeclaredFeature():
            return f": {item.expression}"
    return ""


def _entity_changes(name: str, before: Entity, after: Entity) -> Iterator[str]:
    if before.columns != after.columns:
        yield f"entity {name!r} is identified by {after.identified_by} (was {before.identified_by})"
    yield from _list_changes(f"{name}: ", "window", before.windows, after.windows)
    yield from _list_changes(f"{name}: ", "fraud window", before.fraud_windows, after.fraud_windows)
    aggregates = ([each.text for each in entity.aggregates] for entity in (before, after))
    yield from _list_changes(f"{name}: ", "aggregate", *aggregates)
    if before.whole_days != after.whole_days:
        yield f"{name}: windows consist of {'hours' if after.whole_days else 'tiles of 5 minutes, hours and days'} now"
    if before.busy != after.busy:
        yield f"{name}: {'busy now' if after.busy else 'not busy any more'}"


def _declared_changes(name: str, before: DeclaredFeature, after: DeclaredFeature) -> Iterator[str]:
    if before.expression != after.expression:
        yield f"feature {name!r} was {before.expression}, is {after.expression}"
    if before.says != after.says:
        yield f"feature {name!r} reads differently as a reason"


def _values_changes(name: str, before: Collection[str], after: Collection[str]) -> Iterator[str]:
    if added := [value for value in after if value not in before]:
        yield f"{name}: {', '.join(map(repr, added))} known from now on"
    if removed := [value for value in before if value not in after]:
        yield f"{name}: {', '.join(map(repr, removed))} unknown from now on"
    if not added and not removed:
        yield f"{name}: its known values are in another order"
