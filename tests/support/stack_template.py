"""The stack's template, for tests: the account it is synthesized for, and how to read it."""

import json
import re
from collections.abc import Iterator
from typing import Any

Template = dict[str, Any]
ACCOUNT, REGION = "111122223333", "eu-west-1"
ZONES = ("eu-west-1a", "eu-west-1c")
PREFIX = f"{REGION}:{ACCOUNT}"


def of_type(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    """The properties of the resources of a type, by logical id."""
    return {
        name: resource["Properties"] for name, resource in template["Resources"].items() if resource["Type"] == kind
    }


def the(template: Template, kind: str, starts: str = "") -> dict[str, Any]:
    [match] = [properties for name, properties in of_type(template, kind).items() if name.startswith(starts)]
    return match


def trigger_rule(template: Template, name: str) -> dict[str, Any]:
    return the(template, "AWS::Events::Rule", f"Triggers{name}")


def words(value: Any) -> str:
    """A value of the template as text: references as <Id> and <Id.Attribute>."""
    if isinstance(value, dict) and len(value) == 1:
        [(function, arguments)] = value.items()
        if function == "Ref":
            return f"<{arguments}>"
        if function == "Fn::GetAtt":
            return f"<{'.'.join(arguments)}>"
        if function == "Fn::Join":
            return str(arguments[0]).join(words(part) for part in arguments[1])
    return value if isinstance(value, str) else json.dumps(value).replace('"', "'")


def statements(template: Template, role: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each statement of the roles' policies, with its policy's name."""
    for name, policy in of_type(template, "AWS::IAM::Policy").items():
        if role is None or any(words(one).startswith(f"<{role}") for one in policy["Roles"]):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def permissions(template: Template, role: str, effect: str = "Allow") -> set[tuple[str, str]]:
    """What a role may do, as pairs of action and resource; the data bucket's ARN is written `data`."""
    return {
        (action, re.sub(r"<DataBucket\w+\.Arn>", "data", words(resource)))
        for _, statement in statements(template, role)
        if statement["Effect"] == effect
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }
