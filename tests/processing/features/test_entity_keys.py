"""The keys of entities: one for each combination of the values of their columns, and never the same for two."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from processing.contracts.reader import parse
from processing.features.entity_keys import EntityKeys, entity_key, named_keys
from processing.features.table_features import entity_codes

CONTRACT = parse("""
name = "pairs"
[columns]
time = "at"
amount = "value"
label = "fraud"
[[entity]]
name = "visitor"
columns = ["shop_no", "card_no"]
windows_days = [1]
[[entity]]
name = "card"
column = "card_no"
windows_days = [1]
[[entity]]
name = "region"
columns = ["country", "shop_no", "card_no"]
windows_days = [1]
""")
texts = st.text('ab,[]\\"é')
pairs = st.tuples(texts, texts)


@given(pairs, pairs)
@example(("a", "b,c"), ("a,b", "c"))
@example(("a", 'b","c'), ('a","b', "c"))
@example(("", "a"), ("a", ""))
def test_different_pairs_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (entity_key(one) == entity_key(other)) == (one == other)


@given(texts)
def test_the_key_of_a_single_column_is_its_value(value: str) -> None:
    assert entity_key([value]) == value


def test_a_pair_is_a_json_list_that_keeps_its_letters() -> None:
    assert entity_key(("é", "1")) == '["é","1"]'


def test_each_column_is_asked_for_once_and_each_entity_gets_its_own_key() -> None:
    assert CONTRACT.key_columns == ("shop_no", "card_no", "country")
    assert EntityKeys(CONTRACT).of(("s", "c", "de")) == ('["s","c"]', "c", '["de","s","c"]')


def test_tables_name_a_column_after_the_entity_that_it_alone_identifies() -> None:
    columns = {"country": 3, "card_no": 2, "shop_no": 1, "at": 0}
    assert named_keys(CONTRACT, columns) == {"shop_no": 1, "card": 2, "country": 3}
    assert [CONTRACT.key_names_of(entity) for entity in CONTRACT.entities] == [
        ("shop_no", "card"),
        ("card",),
        ("country", "shop_no", "card"),
    ]


@given(st.lists(st.tuples(*(st.sampled_from(["", "a", "a,b", "b"]),) * 3)))
def test_codes_are_equal_for_the_rows_of_one_entity_alone(rows: Sequence[tuple[str, ...]]) -> None:
    names = ("one", "two", "three")
    columns = [[row[i] for row in rows] for i in range(3)]
    table = pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)})
    for some in (names[:1], names[:2], names):
        codes = entity_codes(some, table)
        assert codes.dtype == np.int64
        assert all(0 <= code < max(len(rows), 1) for code in codes)
        combinations = {(int(code), row[: len(some)]) for code, row in zip(codes, rows, strict=True)}
        assert len(combinations) == len({code for code, _ in combinations}) == len({row for _, row in combinations})
