"""What it means for a home with data to get another contract: what changes, what that costs, and what is refused.

Stored rows, decisions, labels and models stay as they are. So a change is refused if a stored row would no longer mean
what it says, or if the rows that are there lack what the new contract needs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from processing.contract import LASTING, Contract
from processing.contracts.change_words import changed_entries, count_of, some_of
from processing.contracts.store_needs import store_needs

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
        return list(changed_entries(self.before, self.after))

    @property
    def affects_rows(self) -> bool:
        """Whether rows or features differ under the two contracts."""
        return any(self.features_change) or _kinds(self.before) != _kinds(self.after)

    @cached_property
    def refusals(self) -> list[str]:
        """Why a home with data cannot take the contract; empty if it can."""
        before, after = self.before, self.after
        refusals = [f"{change}: {WHY_LASTING[name]}" for name in LASTING for change in after.changes(before, (name,))]
        return [*refusals, *self._zone_refusals(), *self._key_refusals(), *self._column_refusals()]

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
        """Whether the next run sets the online store anew: what it keeps of an entity is not the same."""
        return store_needs(self.before) != store_needs(self.after)

    def _costs(self) -> Iterator[str]:
        """What follows from the change."""
        added, removed, redefined = self.features_change
        for names, what in ((added, "added"), (removed, "removed"), (redefined, "computed differently")):
            if names:
                yield f"{count_of(names, 'feature')} {what}: {some_of(names)}"
        if self.columns_added:
            yield f"rows stored before have no value of {some_of(self.columns_added)}, which counts as missing"
        if self.columns_removed:
            yield f"{some_of(self.columns_removed)}: not read any more; values stored before stay readable"
        if added or removed or redefined:
            yield "the next run computes all features anew and trains on them; the serving model serves on as it is"
        if self.store_rebuild:
            before, after = (-(-contract.lookback_hours // 24) for contract in (self.before, self.after))
            reach = f"{after} day{'' if after == 1 else 's'}" + (f" instead of {before}" if before != after else "")
            yield f"the next run sets the online store anew, for {reach}"

    def _zone_refusals(self) -> Iterator[str]:
        if self.after.time_format == "iso":  # others are seconds, whatever the zone
            for change in self.after.changes(self.before, ("time_zone",)):
                yield f"{change}: stored event times without an offset were read by it"

    def _key_refusals(self) -> Iterator[str]:
        """Decisions hold the values of the key columns in their order, tables hold them under their names."""
        before, after = (dict(zip(one.key_columns, one.key_names, strict=True)) for one in (self.before, self.after))
        entities = {entity.name: entity for entity in self.before.entities}
        for entity in self.after.entities:
            if (was := entities.get(entity.name, entity)).columns != entity.columns:
                yield (
                    f"entity {entity.name!r} was identified by {was.identified_by}, and is by {entity.identified_by} "
                    "now: stored rows and counters have the former key"
                )
            for column in entity.columns:
                if column not in before:
                    yield f"entity {entity.name!r} needs the column {column!r}: stored rows and decisions lack it"
        for column, name in before.items():
            if column not in after:
                yield f"column {column!r} identifies no entity any more: decisions and stored rows have it"
            elif after[column] != name:
                yield f"column {column!r} would be {after[column]!r} in tables: stored rows have it as {name!r}"
        if list(before) != list(after) and set(before) == set(after):
            order = ", ".join(after)
            yield f"the columns that identify entities would be {order}, in this order: decisions have them in another"

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
    from processing.features.feature_set import FeatureSet  # imports NumPy, which `fraudline --help` does without

    decimals, features = contract.amount_decimals, FeatureSet(contract)
    declared = features.declared
    definitions: dict[str, object] = dict.fromkeys(declared.base, decimals)
    definitions |= dict.fromkeys(("hour", "weekend"), contract.time_zone)
    for entity, computed in zip(contract.entities, features.entities.values(), strict=True):
        common = (decimals, entity.columns, entity.whole_days, entity.busy)
        definitions |= {name: (*common, *own) for name, own in computed.definitions.items()}
    definitions |= contract.categorical
    for name, expression in zip(declared.names, declared.compiled, strict=True):
        used = {each: definitions[declared.name_of(each)] for each in sorted(expression.expression.names)}
        definitions[name] = (expression.expression.text, used)
    return definitions
