"""How the value of each feature reads in words."""

from collections.abc import Sequence

from processing.contract import Contract
from processing.features.words import parse_words
from serving.decision.entity_words import entity_descriptions
from serving.decision.sentence_parts import Description, Words, money_of, unless_missing


def plain_description(name: str) -> Description:
    """The description of a feature that is not known here."""
    return Description(name, _number(name.replace("_", " ")))


def descriptions_of(contract: Contract) -> dict[str, Description]:
    """The descriptions of a contract's features, by feature name."""
    money = money_of(contract)
    clock = f"in {contract.time_zone}" if contract.time_zone else "UTC"
    by_name = {
        "amount": Description("amount", lambda v: f"amount {money(v)}"),
        "hour": Description("time", lambda v: f"between {v:02.0f}:00 and {(v + 1) % 24:02.0f}:00 {clock}"),
        "weekend": Description("time", lambda v: "on a weekend" if v else "on a weekday"),
    }
    for entity in contract.entities:
        by_name |= entity_descriptions(contract, entity)
    by_name |= {name: Description(name, _number(name)) for name in contract.numeric}
    by_name |= {name: Description(name, _category(name, values)) for name, values in contract.categorical.items()}
    for feature in contract.declared:
        if feature.says:
            words = parse_words(feature.says, feature.name, f"feature {feature.name!r}")
            by_name[feature.name] = Description(feature.name, words.render)
    return by_name


def _number(name: str) -> Words:
    return unless_missing(f"no {name}", lambda value: f"{name} {value:g}")


def _category(name: str, values: Sequence[str]) -> Words:
    return unless_missing(f"{name} missing or unlisted", lambda value: f"{name} {values[int(value)]}")
