"""The great-circle distance: the same bits for columns and numbers, and right to a hair everywhere on the earth."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processing.features.arithmetic import COLUMNS, NUMBERS
from processing.features.distance import RADIUS_KM, distance_km

PI = Decimal("3.14159265358979323846264338327950288419716939937510582")
Pair = tuple[float, float, float, float]

latitudes = st.floats(-90, 90) | st.sampled_from([-90.0, -0.0, 0.0, 90.0, 89.9999999])
longitudes = st.floats(-180, 180) | st.sampled_from([-180.0, -0.0, 0.0, 180.0, 179.9999999, -90.0])
pairs = st.tuples(latitudes, longitudes, latitudes, longitudes)
anything = st.floats() | latitudes


@st.composite
def close_pairs(draw: st.DrawFn) -> Pair:
    """Two places close to each other, or one close to the other's antipode."""
    lat, lon = draw(latitudes), draw(longitudes)
    reach = 10.0 ** draw(st.integers(-12, 0))
    lat2 = min(90.0, max(-90.0, lat + draw(st.floats(-1, 1)) * reach))
    lon2 = min(180.0, max(-180.0, lon + draw(st.floats(-1, 1)) * reach))
    if draw(st.booleans()):
        lat2, lon2 = -lat2, lon2 - 180.0 if lon2 > 0 else lon2 + 180.0
    return lat, lon, lat2, lon2


def sine_cosine(degrees: Decimal) -> tuple[Decimal, Decimal]:
    angle = degrees * PI / 180
    sine, cosine, power = Decimal(0), Decimal(0), Decimal(1)
    for n in range(60):
        sign = -1 if n % 4 > 1 else 1
        if n % 2:
            sine += sign * power
        else:
            cosine += sign * power
        power = power * angle / (n + 1)
    return sine, cosine


def by_vectors(places: Pair) -> Decimal:
    """The distance to 40 digits by another formula: the angle between two vectors, its tangent halved repeatedly."""
    with localcontext() as context:
        context.prec = 50
        lat1, lon1, lat2, lon2 = map(Decimal, places)
        (s1, c1), (s2, c2), (sine, cosine) = sine_cosine(lat1), sine_cosine(lat2), sine_cosine(lon2 - lon1)
        across = ((c2 * sine) ** 2 + (c1 * s2 - s1 * c2 * cosine) ** 2).sqrt()
        along = s1 * s2 + c1 * c2 * cosine
        tangent = across / ((across**2 + along**2).sqrt() + abs(along))
        for _ in range(8):
            tangent = tangent / (1 + (1 + tangent**2).sqrt())
        angle = sum(((-1) ** n * tangent ** (2 * n + 1) / (2 * n + 1) for n in range(12)), Decimal(0))
        return Decimal(RADIUS_KM) * (512 * angle if along > 0 else PI - 512 * angle)


@given(pairs | close_pairs())
@example((90.0, 0.0, -90.0, 0.0))
@example((0.0, 0.0, 0.0, 180.0))
@example((10.0, 180.0, 10.0, -180.0))
def test_the_distance_is_right_to_a_micrometre_and_to_fourteen_digits(places: Pair) -> None:
    km, expected = distance_km(*places, NUMBERS), by_vectors(places)
    assert abs(Decimal(km) - expected) < Decimal("1e-9")
    if abs(places[1] - places[3]) < 1 or abs(places[0] - places[2]) > 1:  # else the rounded difference is at issue
        assert abs(Decimal(km) - expected) <= expected * Decimal("2e-14") + Decimal("1e-30")


@given(st.lists(st.tuples(anything, anything, anything, anything) | pairs | close_pairs(), min_size=1, max_size=20))
def test_columns_and_numbers_have_the_same_bits(rows: list[Pair]) -> None:
    with np.errstate(all="ignore"):
        columns = distance_km(*np.array(rows).T, COLUMNS)
    assert columns.tobytes() == np.array([distance_km(*row, NUMBERS) for row in rows]).tobytes()


@given(pairs | close_pairs())
def test_the_way_back_is_as_long(places: Pair) -> None:
    lat1, lon1, lat2, lon2 = places
    assert distance_km(lat1, lon1, lat2, lon2, NUMBERS) == distance_km(lat2, lon2, lat1, lon1, NUMBERS)


@given(latitudes, longitudes)
def test_a_place_is_at_no_distance_of_itself_and_half_around_the_earth_of_its_antipode(lat: float, lon: float) -> None:
    assert distance_km(lat, lon, lat, lon, NUMBERS) == 0.0
    antipode = (-lat, lon - 180.0 if lon > 0 else lon + 180.0)
    assert distance_km(lat, lon, *antipode, NUMBERS) == pytest.approx(math.pi * RADIUS_KM, rel=1e-14)


@pytest.mark.parametrize(
    "place", [(90.1, 0.0), (-91.0, 0.0), (0.0, 180.1), (0.0, -181.0), (math.nan, 0.0), (0.0, math.inf)]
)
def test_what_is_no_place_is_at_no_known_distance(place: tuple[float, float]) -> None:
    assert math.isnan(distance_km(*place, 1.0, 1.0, NUMBERS))
    assert math.isnan(distance_km(1.0, 1.0, *place, NUMBERS))


def test_the_distance_of_two_cities_is_as_in_the_atlas() -> None:
    assert distance_km(48.8566, 2.3522, 40.7128, -74.0060, NUMBERS) == pytest.approx(5837, abs=1)  # Paris, New York
