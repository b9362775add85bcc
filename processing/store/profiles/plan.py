"""The layouts of all entities of a home, and each transaction as their profiles count it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from processing.contract import Contract
from processing.features.aggregated_events import text_hash
from processing.features.state_plan import EntityEvent, StatePlan
from processing.features.tiles import Tile
from processing.features.windows import EntityWindows
from processing.store.decisions import Event
from processing.store.profiles.layout import Layout
from processing.store.profiles.profile import Counted, Profile, state_of


class ProfilePlan:
    """The profiles that a home's contract needs, and the contracts of models that may serve.

    Of those, one that identifies transactions by other columns is left out: its features cannot be computed any more.
    """

    def __init__(self, contract: Contract, others: Sequence[Contract] = ()) -> None:
        self.contract, self.state_plan = contract, StatePlan(contract)
        self.plans = [self.state_plan]
        columns = {entity.name: entity.columns for entity in contract.entities}
        for other in others:
            if _fits(other, contract, columns):
                self.plans.append(StatePlan(other))
                columns |= {entity.name: entity.columns for entity in other.entities}

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """The layout of every entity, by its name."""
        names = dict.fromkeys(name for plan in self.plans for name in plan.entities)
        return {name: Layout(name, tuple(windows for _, windows in self.windows_of(name))) for name in names}

    def windows_of(self, entity: str) -> list[tuple[Contract, EntityWindows]]:
        """The windows of an entity under each contract that has it."""
        return [
            (plan.contract, windows)
            for plan in self.plans
            for name, windows in zip(plan.entities, plan.windows, strict=True)
            if name == entity
        ]

    def key_names_of(self, entity: str) -> tuple[str, ...]:
        """The names in the home's tables of the columns that identify an entity."""
        names = dict(zip(self.contract.key_columns, self.contract.key_names, strict=True))
        owner = next(each for plan in self.plans for each in plan.contract.entities if each.name == entity)
        return tuple(names[column] for column in owner.columns)

    @cached_property
    def event_columns(self) -> tuple[str, ...]:
        """The columns beside the keys that a stored event must have: `Event.extras`."""
        return tuple(dict.fromkeys(name for plan in self.plans for name in plan.event_columns))

    def is_numeric(self, column: str) -> bool:
        """Whether one of `event_columns` holds numbers."""
        return any(column in plan.contract.numeric for plan in self.plans)

    @cached_property
    def digest(self) -> str:
        """A digest of what profiles keep. Profiles that were settled under another one lack something."""
        kept = [
            (name, self.key_names_of(name), [column.name for column in layout.columns], *layout.kept_us.items())
            for name, layout in sorted(self.layouts.items())
        ]
        return hashlib.sha256(repr((kept, self.longest_us)).encode()).hexdigest()[:16]

    @cached_property
    def busy(self) -> frozenset[str]:
        """The names of the entities that the home's contract declares busy."""
        return frozenset(entity.name for entity in self.contract.entities if entity.busy)

    def has_frauds(self, entity: str) -> bool:
        """Whether the profiles of an entity need labels."""
        return self.layouts[entity].frauds_kept_us > 0

    @property
    def longest_us(self) -> int:
        """How long any profile keeps tiles or frauds, in microseconds."""
        return max((max(*each.kept_us.values(), each.frauds_kept_us) for each in self.layouts.values()), default=0)

    def seen(self, event: Event, plan: StatePlan | None = None) -> list[EntityEvent]:
        """An event as the entities of a contract see it, by default the home's, in the order of that contract."""
        plan = plan or self.state_plan
        named = self._named(event)
        return plan.of(event.time_us, event.amount, [named[column] for column in plan.contract.key_columns], named)

    def state(
        self, event: Event, plan: StatePlan | None, profiles_of: Callable[[str, str], Sequence[Profile]]
    ) -> list[int]:
        """The state of an event, one entity after the other, from the profiles of each entity's name and key."""
        plan = plan or self.state_plan
        state: list[int] = []
        for entity, each in zip(plan.entities, self.seen(event, plan), strict=True):
            state += state_of(each, profiles_of(entity, each.key))
        return state

    def counted(self, event: Event) -> list[Counted]:
        """An event as the profiles of all entities count it."""
        tiles: dict[str, Tile] = {}
        keys: dict[str, str] = {}
        for plan in self.plans:
            for each in self.seen(event, plan):
                name, tile = plan.entities[each.entity], each.windows.tile_of(each.values)
                known, keys[name] = tiles.get(name), each.key
                tiles[name] = tile if known is None else (*known, *tile)
        number = id_hash(event.transaction_id)
        return [
            Counted(name, keys[name], event.time_us, event.amount, number, self._in_layout(name, tiles[name]))
            for name in self.layouts
        ]

    def _in_layout(self, entity: str, tile: Tile) -> Tile:
        """The tiles of an event under each contract, one after the other, as a tile of the layout."""
        places = self._places[entity]
        return tile if len(places) == len(tile) else tuple([tile[place] for place in places])

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        """For each column of an entity's layout its index among those of all contracts, one after the other."""
        of_all = {
            name: [column for windows in layout.windows for column in windows.tile_columns]
            for name, layout in self.layouts.items()
        }
        return {name: list(map(of_all[name].index, layout.columns)) for name, layout in self.layouts.items()}

    def _named(self, event: Event) -> Mapping[str, Any]:
        return dict(zip(self.contract.key_columns, event.keys, strict=True)) | dict(event.extras)


def id_hash(transaction_id: str) -> int:
    """A hash of a transaction's id, from 1 to 2^63 - 1: 0 stands for no single transaction."""
    return text_hash(transaction_id) or 1


def _fits(other: Contract, contract: Contract, columns: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether the events of a home have what another contract's entities need, under the same names."""
    known = set(contract.key_columns)
    return known.issuperset(other.key_columns) and all(
        columns.get(entity.name, entity.columns) == entity.columns for entity in other.entities
    )
