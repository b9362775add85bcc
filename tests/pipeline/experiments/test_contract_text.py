"""A change of one table of a contract leaves all other text of it as it is."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.experiments.contract_text import with_table, without_table
from processing.contracts.reader import load, shipped
from processing.errors import BadInput

TEXT = """# The whole.
name = "mine"

[[entity]]  # the first
name = "customer"
windows = [
  "1h",
  # [[entity]] in a list
  "1d",
]

# About terminals.
[[entity]]
name = 'terminal'
note = '''
[[entity]]
name = "customer"
'''

[split]
train_days = 20  # enough
"""
values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.integers(0, 99), st.booleans(), st.lists(st.text("ab"))
)


def test_an_entry_changes_and_everything_else_stays() -> None:
    changed = with_table(TEXT, "entity", "customer", {"windows": ["2h"]})
    before, _, after = TEXT.partition("[[entity]]  # the first")
    assert changed == before + '[[entity]]\nname = "customer"\nwindows = ["2h"]' + after[after.index("\n\n# About") :]


def test_a_new_table_comes_last() -> None:
    changed = with_table(TEXT, "feature", "twice", {"is": "amount * 2", "says": None})
    assert changed == TEXT + '\n[[feature]]\nname = "twice"\nis = "amount * 2"\n'


def test_a_table_goes_and_the_comments_after_it_stay() -> None:
    assert without_table(TEXT, "customer").startswith('# The whole.\nname = "mine"\n\n\n# About terminals.\n[[entity]]')
    assert tomllib.loads(without_table(TEXT, "terminal"))["entity"] == tomllib.loads(TEXT)["entity"][:1]


def test_a_name_that_is_not_there_cannot_go() -> None:
    with pytest.raises(BadInput, match="no entity and no declared feature 'merchant'"):
        without_table(TEXT, "merchant")


@pytest.mark.parametrize("change", [lambda text: with_table(text, "entity", "a", {}), lambda t: without_table(t, "a")])
def test_tables_in_one_line_are_left_alone_with_a_clear_word(change: Any) -> None:
    with pytest.raises(BadInput, match=r"write each under \[\[entity\]\]"):
        change('entity = [{ name = "a" }]\n')


@given(
    st.sampled_from(["customer", "terminal", "new"]),
    st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), values),
)
def test_the_document_is_changed_as_requested_and_nowhere_else(name: str, entries: dict[str, Any]) -> None:
    entries.pop("name", None)
    document = tomllib.loads(TEXT)
    tables = {table["name"]: table for table in document["entity"]}
    tables[name] = tables.get(name, {"name": name}) | entries
    assert tomllib.loads(with_table(TEXT, "entity", name, entries)) == document | {"entity": list(tables.values())}


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_contract_can_be_changed(name: str) -> None:
    text = load(name).text
    for entity in tomllib.loads(text).get("entity", []):
        assert tomllib.loads(with_table(text, "entity", entity["name"], {})) == tomllib.loads(text)
