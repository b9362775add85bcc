"""JSON as an instance of a pydantic model. The cost of an invalid body stays in proportion to its size."""

from typing import TypeVar

from pydantic import BaseModel
from pydantic_core import from_json

from serving.api.problems import MalformedRequest

EXTRA_FIELDS = 64  # unknown fields that are reported one by one; a body with more is refused as a whole

Model = TypeVar("Model", bound=BaseModel)


def max_fields(model: type[BaseModel]) -> int:
    """How many fields a request may have, unknown ones included."""
    return len(model.model_fields) + EXTRA_FIELDS


def validate_json(model: type[Model], body: bytes) -> Model:
    """Parse a body into the model. Raises ValidationError, and MalformedRequest for too many fields.

    Pydantic creates an error for each unknown field, which takes many times longer than parsing the field.
    """
    limit = max_fields(model)
    if body.count(b":") > limit:  # otherwise it cannot have too many fields
        try:
            document = from_json(body)
        except ValueError:
            document = None  # not JSON; pydantic reports that below
        if isinstance(document, dict) and len(document) > limit:
            raise MalformedRequest(
                f"the object has {len(document):,} fields; the limit is {limit}, unknown ones included"
            )
    return model.model_validate_json(body)
