"""Parameters, pipeline variables and conditions, as a local run resolves them."""

import json
from pathlib import Path
from typing import Any

import pytest
from definition_entries import Entry, document, equal, get, join, json_get
from hypothesis import given
from hypothesis import strategies as st

from pipeline.local import Bindings, LocalExecution
from pipeline.local.conditions import is_met
from pipeline.local.pipeline_variables import Scope, resolve
from processing.errors import BadInput

# Parameters


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("Integer", "300", 300), ("Float", "0.5", 0.5), ("Float", 2, 2.0), ("Boolean", "true", True)],
)
def test_parameters_are_parsed_by_their_type(tmp_path: Path, kind: str, text: Any, value: Any) -> None:
    definition = document(parameters=[{"Name": "P", "Type": kind}])
    execution = LocalExecution(definition, {"P": text}, tmp_path, "r1", Bindings())
    assert execution.parameters == {"P": value}
    assert type(execution.parameters["P"]) is type(value)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "LearningRate has no default"),
        ({"LearningRate": "fast"}, "LearningRate is 'fast'; it must be of type Float"),
        ({"LearningRate": "nan"}, "must be a finite number"),
        ({"LearningRate": True}, "must be of type Float"),
        ({"learning_rate": 0.1}, "did you mean LearningRate.*It has LearningRate, Status"),
        ({"LearningRate": 0.1, "Zzz": 1}, "no parameter 'Zzz'. It has LearningRate"),
        ({"LearningRate": 0.1, "Status": "Maybe"}, "must be one of Approved, Pending"),
    ],
)
def test_an_invalid_parameter_is_refused_before_anything_runs(
    tmp_path: Path, values: dict[str, Any], complaint: str
) -> None:
    status = {"Name": "Status", "Type": "String", "DefaultValue": "Approved"}
    parameters: list[Entry] = [
        {"Name": "LearningRate", "Type": "Float"},
        {**status, "EnumValues": ["Approved", "Pending"]},
    ]
    with pytest.raises(BadInput, match=complaint):
        LocalExecution(document(parameters=parameters), values, tmp_path / "r1", "r1", Bindings())
    assert not (tmp_path / "r1").exists()


# Pipeline variables

plain = st.text() | st.integers() | st.floats(allow_nan=False)
keys = st.text(st.characters(categories=["L", "N"]), min_size=1).filter(lambda text: not text.isdigit())
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@given(st.text(), st.lists(plain))
def test_join_is_pythons_join(on: str, values: list[Any]) -> None:
    parameters = {f"p{index}": value for index, value in enumerate(values)}
    parts = [get(f"Parameters.{name}") for name in parameters]
    assert resolve(join(*parts, on=on), Scope(parameters), "S") == on.join(map(str, values))


@given(documents)
def test_data_without_variables_stays_unchanged(value: Any) -> None:
    assert resolve(value, Scope(), "S") == value


def paths(value: Any, path: str = "") -> list[tuple[str, Any]]:
    inner = list(enumerate(value)) if isinstance(value, list) else []
    result = [(path, value)] if path else []
    for index, item in inner:
        result += paths(item, f"{path}[{index}]")
    for key, item in value.items() if isinstance(value, dict) else []:
        result += paths(item, f"{path}.{key}" if path else key)
        result += paths(item, f"{path}['{key}']")
    return result


@given(st.dictionaries(keys, documents, max_size=3))
def test_json_get_reaches_every_value_of_a_property_file(
    tmp_path_factory: pytest.TempPathFactory, content: Entry
) -> None:
    file = tmp_path_factory.getbasetemp() / "evaluation.json"
    file.write_text(json.dumps(content))
    scope = Scope(property_files={"Evaluate": {"evaluation": str(file)}})
    for path, value in paths(content):
        assert resolve(json_get("Evaluate", "evaluation", path), scope, "S") == value
        rooted = f"${path}" if path.startswith("[") else f"$.{path}"
        assert resolve(json_get("Evaluate", "evaluation", rooted), scope, "S") == value


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        (get("Steps.Train.ModelArtifact"), "step S: Steps.Train.ModelArtifact .* it has TrainingJobName"),
        (get("Steps.Score.Outcome"), "step S: Steps.Score.Outcome has no value: the step Score has not run"),
        (get("Parameters.Rate"), "step S: Parameters.Rate"),
        (get("Secrets.Rate"), "'Secrets.Rate' refers to nothing"),
        (get("Parameters[[0]"), "is not a path"),
        (json_get("Train", "evaluation", "a"), "step S: .* the step Train has no such file"),
        (join([1]), "step S: Std:Join takes texts and numbers"),
    ],
)
def test_a_variable_without_a_value_is_named(reference: Entry, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        resolve(reference, Scope(steps={"Train": {"TrainingJobName": "t"}}), "S")


# Conditions


def compare(kind: str, left: Any, right: Any) -> bool:
    return is_met({"Type": kind, "LeftValue": left, "RightValue": right}, lambda value: value)


numbers = st.integers() | st.floats(allow_nan=False)


@given(st.tuples(numbers, numbers) | st.tuples(st.text(), st.text()))
def test_comparisons_are_consistent(pair: tuple[Any, Any]) -> None:
    left, right = pair
    less, equals, greater = (compare(kind, left, right) for kind in ("LessThan", "Equals", "GreaterThan"))
    assert [less, equals, greater].count(True) == 1
    assert compare("LessThanOrEqualTo", left, right) == (less or equals)
    assert compare("GreaterThanOrEqualTo", left, right) == (greater or equals)
    assert compare("GreaterThan", right, left) == less


@given(st.lists(st.booleans(), min_size=1))
def test_and_or_not_and_in_follow_boolean_logic(values: list[bool]) -> None:
    conditions = [equal(value, True) for value in values]
    assert is_met({"Type": "And", "Conditions": conditions}, lambda v: v) == all(values)
    assert is_met({"Type": "Or", "Conditions": conditions}, lambda v: v) == any(values)
    assert is_met({"Type": "Not", "Condition": conditions[0]}, lambda v: v) == (not values[0])
    assert is_met({"Type": "In", "QueryValue": True, "Values": values}, lambda v: v) == (True in values)


def test_text_and_number_cannot_be_ordered() -> None:
    with pytest.raises(BadInput, match="cannot compare '1' with 2"):
        compare("LessThan", "1", 2)
