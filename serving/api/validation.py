"""JSON as an instance of a pydantic model, or why it is none, at no more cost than its size warrants."""

from typing import TypeVar

from pydantic import BaseModel
from pydantic_core import from_json

from serving.api.problems import Unreadable

MORE_FIELDS = 64  # than the request has: what is beyond is not looked at one by one

Model = TypeVar("Model", bound=BaseModel)


def most_fields(model: type[BaseModel]) -> int:
    """How many fields a request may bring, unknown ones included."""
    return len(model.model_fields) + MORE_FIELDS


def validated(model: type[Model], body: bytes) -> Model:
    """The instance. Raises ValidationError, and Unreadable for more fields than are worth an error each.

    Pydantic makes an error for every unknown field, which takes many times what reading them does.
    """
    most = most_fields(model)
    if body.count(b":") > most:  # else it has not so many fields, whatever it is
        try:
            found = from_json(body)
        except ValueError:
            found = None  # no JSON: told below
        if isinstance(found, dict) and len(found) > most:
            raise Unreadable(f"the object has {len(found):,} fields; at most {most} are taken, unknown ones included")
    return model.model_validate_json(body)
