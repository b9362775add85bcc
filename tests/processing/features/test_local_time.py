"""Local time: what clocks of a zone show, for columns and numbers, and what a time without an offset means."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from dateutil.zoneinfo import get_zonefile_instance
from every_aggregate import CONTRACT
from hypothesis import given
from hypothesis import strategies as st

from processing.errors import BadInput
from processing.features.feature_set import FeatureSet
from processing.features.local_time import clock_of, skipped_time

# Of Europe and America; with half an hour, 45 minutes and half an hour's summer time; with the seasons reversed; one
# that skipped a whole day; one whose winter time is the exception; one without any change; UTC itself.
ZONES = (
    *("Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"),
    *("America/Santiago", "Pacific/Apia", "Africa/Casablanca", "Asia/Tokyo", "UTC"),
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
zones = st.sampled_from(ZONES)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


@st.composite
def times_of(draw: st.DrawFn, zone: str) -> int:
    """A time, often near a change of the zone's clock."""
    changes = clock_of(zone).changes
    anywhere = st.integers(micros(datetime(2000, 1, 1, tzinfo=UTC)), micros(datetime(2036, 1, 1, tzinfo=UTC)))
    if not changes or draw(st.booleans()):
        return draw(anywhere)
    near = st.integers(-3, 3).map(lambda halves: halves * 1_800_000_000) | st.sampled_from([-1, 1])
    return draw(st.sampled_from(changes[:60])) + draw(near)


def shown(time_us: int, zone: str) -> datetime:
    """What dateutil's own reading of the rules shows: another implementation than the standard library's."""
    moment = EPOCH + timedelta(microseconds=time_us)
    return moment.astimezone(get_zonefile_instance().get(zone)).replace(tzinfo=None)


@given(zones.flatmap(lambda zone: st.tuples(st.just(zone), st.lists(times_of(zone), max_size=5))))
def test_a_clock_shows_the_same_for_columns_for_numbers_and_by_another_implementation(case: tuple[str, Any]) -> None:
    zone, times = case
    clock = clock_of(zone)
    expected = [micros(shown(time_us, zone).replace(tzinfo=UTC)) for time_us in times]
    assert [clock.local(time_us) for time_us in times] == expected
    assert clock.local(np.array(times, np.int64)).tolist() == expected
    assert [clock.shown(EPOCH + timedelta(microseconds=each)) for each in times] == [
        shown(each, zone) for each in times
    ]


@given(zones.flatmap(lambda zone: st.tuples(st.just(zone), times_of(zone))))
def test_a_local_time_means_the_first_moment_at_which_a_clock_shows_it(case: tuple[str, int]) -> None:
    zone, time_us = case
    clock = clock_of(zone)
    local = clock.local(time_us)
    found = clock.utc_of(datetime(1970, 1, 1) + timedelta(microseconds=local))
    assert found is not None
    assert found <= time_us
    assert clock.local(found) == local
    earlier = [offset for offset in set(clock.offsets) if clock.local(local - offset) == local]
    assert found == min(local - offset for offset in earlier)


@given(zones.flatmap(lambda zone: st.tuples(st.just(zone), times_of(zone))))
def test_only_local_times_that_no_clock_ever_shows_are_skipped(case: tuple[str, int]) -> None:
    zone, local = case
    clock = clock_of(zone)
    is_shown = any(clock.local(local - offset) == local for offset in set(clock.offsets))
    assert clock.utc(np.array([local])).skipped.tolist() == [not is_shown]
    assert (clock.utc_of(datetime(1970, 1, 1) + timedelta(microseconds=local)) is None) == (not is_shown)


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2026-03-29T01:59:59.999999", "2026-03-29T00:59:59.999999"),
        ("2026-03-29T02:00:00", None),
        ("2026-03-29T02:59:59.999999", None),
        ("2026-03-29T03:00:00", "2026-03-29T01:00:00"),
        ("2026-10-25T02:00:00", "2026-10-25T00:00:00"),  # in summer time, and again an hour later
        ("2026-10-25T02:59:59.999999", "2026-10-25T00:59:59.999999"),
        ("2026-10-25T03:00:00", "2026-10-25T02:00:00"),
        ("2099-07-01T12:00:00", "2099-07-01T10:00:00"),  # by the rule that goes on
    ],
)
def test_changes_of_the_clock_in_berlin(local: str, utc: str | None) -> None:
    expected = micros(datetime.fromisoformat(f"{utc}Z")) if utc else None
    assert clock_of("Europe/Berlin").utc_of(datetime.fromisoformat(local)) == expected


def test_an_unknown_zone_is_refused_with_a_similar_name() -> None:
    with pytest.raises(BadInput, match="'Europe/Berlinn' is not known; did you mean 'Europe/Berlin'"):
        clock_of("Europe/Berlinn")
    with pytest.raises(BadInput, match="expected a name such as 'Europe/Berlin'"):
        clock_of("../../etc/passwd")
    assert "Europe/Berlin" in skipped_time("Europe/Berlin")


@given(zones.flatmap(lambda zone: st.tuples(st.just(zone), st.lists(times_of(zone), min_size=1, max_size=5))))
def test_hours_and_weekends_are_local_and_have_the_same_bits_in_the_job_and_in_the_api(case: tuple[str, Any]) -> None:
    zone, times = case
    features = FeatureSet(replace(CONTRACT, time_zone=zone))
    state = np.zeros((len(times), len(features.state_names)), np.int64)
    extras = np.zeros((len(times), 3))
    amounts = np.ones(len(times), np.int64)
    offline = features.compute(amounts, np.array(times, np.int64), state, extras)
    for row, time_us in zip(offline, times, strict=True):
        local = shown(time_us, zone)
        assert row[1:3].tolist() == [local.hour, float(local.weekday() >= 5)]
        assert features.compute_one(1, time_us, [0] * state.shape[1], extras[:1]).tobytes() == row.tobytes()


def test_a_contract_without_a_zone_has_the_features_of_utc_and_the_definition_that_it_had() -> None:
    local = FeatureSet(replace(CONTRACT, time_zone="UTC"))
    *plain, clock = local.definition
    assert tuple(plain) == FeatureSet(CONTRACT).definition
    assert clock == clock_of("UTC")
    assert local.names == FeatureSet(CONTRACT).names
