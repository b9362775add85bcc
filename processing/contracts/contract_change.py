"""What it means for a home with data to get another contract: what changes, what that costs, and what is refused.

Stored rows, decisions, labels and models stay as they are. So a change is refused if a stored row would no longer mean
what it says, or if the rows that are there lack what the new contract needs.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from processing.contract import ENTRIES, LASTING, Contract, DeclaredFeature, Entity

WHY_LASTING = {
    "id": "stored rows and decisions are identified by it",
    "amount_decimals": "stored amounts are whole minor units of the currency",
    **dict.fromkeys(("time", "time_format", "time_origin"), "stored event times were read by it"),
    **dict.fromkeys(("amount", "label"), "stored rows were read from that column; another one may mean something else"),
}


class FeaturesChange(NamedTuple):
    """The names of features that a change adds, removes, and defines differently, in the order of the contract."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    redefined: tuple[str, ...]


@dataclass(frozen=True)
class ContractChange:
    """The change from one contract of a home to another. Both are valid by themselves."""

    before: Contract
    after: Contract

    @property
    def is_empty(self) -> bool:
        """Whether no entry changes; the wording of the two may differ."""
        return not self.after.changes(self.before)

    @cached_property
    def lines(self) -> list[str]:
        """Each changed entry, and what follows from it, in words. Empty if no entry changes."""
        return [*self.entries, *self._costs()]

    @cached_property
    def entries(self) -> list[str]:
        """Each changed entry, in words."""
        return list(self._entries())

    @property
    def affects_rows(self) -> bool:
        """Whether rows or features differ under the two contracts."""
        return any(self.features_change) or _kinds(self.before) != _kinds(self.after)

    @cached_property
    def refusals(self) -> list[str]:
        """Why a home with data cannot take the contract; empty if it can."""
        before, after = self.before, self.after
        refusals = [f"{change}: {WHY_LASTING[name]}" for name in LASTING for change in after.changes(before, (name,))]
        return [*refusals, *self._entity_refusals(), *self._column_refusals()]

    @cached_property
    def features_change(self) -> FeaturesChange:
        """What changes in the features."""
        before, after = _definitions(self.before), _definitions(self.after)
        return FeaturesChange(
            tuple(name for name in after if name not in before),
            tuple(name for name in before if name not in after),
            tuple(name for name in after if name in before and before[name] != after[name]),
        )

    @property
    def columns_added(self) -> tuple[str, ...]:
        """The columns that rows have from now on."""
        return tuple(name for name in _extras(self.after) if name not in _extras(self.before))

    @property
    def columns_removed(self) -> tuple[str, ...]:
        """The columns that later rows lack."""
        return tuple(name for name in _extras(self.before) if name not in _extras(self.after))

    @property
    def store_rebuild(self) -> bool:
        """Whether the online store must hold more than it does."""
        return self.after.lookback_hours > self.before.lookback_hours

    def _entries(self) -> Iterator[str]:
        before, after = self.before, self.after
        listed = ("entities", "numeric", "categorical", "declared")
        yield from after.changes(before, [name for name in ENTRIES if name not in listed])
        entities = {entity.name: entity for entity in before.entities}
        for entity in after.entities:
            if entity.name not in entities:
                yield f"entity {entity.name!r} is new"
            elif entity != entities[entity.name]:
                yield from _entity_changes(entities[entity.name], entity)
        yield from (f"entity {name!r} goes" for name in entities if name not in {e.name for e in after.entities})
        for what, old, new in (
            ("numeric", before.numeric, after.numeric),
            ("categorical", tuple(before.categorical), tuple(after.categorical)),
        ):
            yield from (f"{what} column {name!r} is new" for name in new if name not in old)
            yield from (f"{what} column {name!r} goes" for name in old if name not in new)
            if old != new and set(old) == set(new):
                yield f"the {what} columns are in another order"
        declared = {feature.name: feature for feature in before.declared}
        for feature in after.declared:
            if feature.name not in declared:
                yield f"feature {feature.name!r} is new: {feature.expression}"
            elif feature != declared[feature.name]:
                yield from _declared_changes(declared[feature.name], feature)
        names = {feature.name for feature in after.declared}
        yield from (f"feature {name!r} goes" for name in declared if name not in names)
        if before.declared != after.declared and set(before.declared) == set(after.declared):
            yield "the declared features are in another order"
        for name, known in after.categorical.items():
            yield from _values_changes(name, before.categorical.get(name, known), known)

    def _costs(self) -> Iterator[str]:
        """What follows from the change."""
        added, removed, redefined = self.features_change
        for names, what in ((added, "added"), (removed, "removed"), (redefined, "computed differently")):
            if names:
                yield f"{_count(names, 'feature')} {what}: {_some(names)}"
        if self.columns_added:
            yield f"rows stored before have no value of {_some(self.columns_added)}, which counts as missing"
        if self.columns_removed:
            yield f"{_some(self.columns_removed)}: not read any more; values stored before stay readable"
        if added or removed or redefined:
            yield "the next run computes all features anew and trains on them; the serving model serves on as it is"
        if self.store_rebuild:
            before, after = (contract.lookback_hours // 24 for contract in (self.before, self.after))
            yield f"the next run sets the online store for {after} days instead of {before}"

    def _entity_refusals(self) -> Iterator[str]:
        before, after = ({entity.name: entity for entity in one.entities} for one in (self.before, self.after))
        for name, entity in after.items():
            if name not in before:
                stored = set(entity.columns) <= set(self.before.key_columns)
                lacks = "the online store has not counted by its key" if stored else "stored rows do not have its key"
                yield f"entity {name!r} is new: {lacks}"
            elif before[name].columns != entity.columns:
                yield (
                    f"entity {name!r} was identified by {before[name].identified_by}, and is by {entity.identified_by} "
                    "now: stored rows and counters have the former key"
                )
        for name in before:
            if name not in after:
                yield f"entity {name!r} goes: decisions and the counters of the online store have its key"
        if list(before) != list(after) and set(before) == set(after):
            yield "the entities are in another order, by which decisions and counters hold their keys"

    def _column_refusals(self) -> Iterator[str]:
        before, after = self.before, self.after
        kinds = _kinds(before), _kinds(after)
        for name in kinds[0].keys() & kinds[1].keys():
            was, now = kinds[0][name], kinds[1][name]
            if was != now:
                yield f"column {name!r} was {was} and is {now} now: stored rows have it as {was}"
        if before.id is None and after.id is None and kinds[0] != kinds[1]:
            yield (
                "columns change, but rows without an id are identified by all their columns: a file that is read again "
                "would be taken for other transactions"
            )


def _extras(contract: Contract) -> tuple[str, ...]:
    return (*contract.numeric, *contract.categorical)


def _kinds(contract: Contract) -> dict[str, str]:
    """The kind of each column that depends on the contract, by name."""
    kinds = dict.fromkeys(contract.key_names, "an entity")
    kinds |= dict.fromkeys(contract.numeric, "a number")
    return kinds | dict.fromkeys(contract.categorical, "a category")


def _definitions(contract: Contract) -> Mapping[str, object]:
    """All that the values of each feature depend on, by the feature's name."""
    from processing.features.feature_set import OWN, FeatureSet  # imports NumPy, which `fraudline --help` does without

    decimals = contract.amount_decimals
    declared = FeatureSet(contract).declared
    definitions: dict[str, object] = dict.fromkeys(declared.base, decimals)
    for entity in contract.entities:
        alone = replace(contract, entities=(entity,), numeric=(), categorical={}, declared=())
        for name in FeatureSet(alone).names[OWN:]:
            longest = entity.windows[-1] if "_amount_trend_" in name else None
            delay = contract.label_delay_days if "_fraud_" in name or name.endswith("_fraud") else None
            definitions[name] = (decimals, entity.columns, entity.whole_days, entity.busy, longest, delay)
    definitions |= contract.categorical
    for name, expression in zip(declared.names, declared.compiled, strict=True):
        used = {each: definitions[declared.name_of(each)] for each in sorted(expression.expression.names)}
        definitions[name] = (expression.expression.text, used)
    return definitions


def _declared_changes(before: DeclaredFeature, after: DeclaredFeature) -> Iterator[str]:
    if before.expression != after.expression:
        yield f"feature {after.name!r} was {before.expression}, is {after.expression}"
    if before.says != after.says:
        yield f"feature {after.name!r} reads differently as a reason"


def _entity_changes(before: Entity, after: Entity) -> Iterator[str]:
    if before.columns != after.columns:
        yield f"entity {after.name!r} is identified by {after.identified_by} (was {before.identified_by})"
    for what, old, new in (
        ("window of", before.windows, after.windows),
        ("fraud window of", before.fraud_windows, after.fraud_windows),
        ("aggregate", [each.text for each in before.aggregates], [each.text for each in after.aggregates]),
    ):
        yield from (f"{after.name}: a {what} {each} is new" for each in new if each not in old)
        yield from (f"{after.name}: the {what} {each} goes" for each in old if each not in new)
    if before.whole_days != after.whole_days:
        tiles = "hours" if after.whole_days else "tiles of 5 minutes, hours and days"
        yield f"{after.name}: its windows consist of {tiles}"
    if before.busy != after.busy:
        yield f"{after.name}: is {'' if after.busy else 'no longer '}a busy entity"


def _values_changes(name: str, before: Collection[str], after: Collection[str]) -> Iterator[str]:
    if added := [value for value in after if value not in before]:
        yield f"{name}: {', '.join(map(repr, added))} known from now on"
    if removed := [value for value in before if value not in after]:
        yield f"{name}: {', '.join(map(repr, removed))} unknown from now on"
    if not added and not removed and list(before) != list(after):
        yield f"{name}: its known values are in another order"


def _count(names: Collection[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def _some(names: Collection[str], most: int = 4) -> str:
    shown = list(names)[:most]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
