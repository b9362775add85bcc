"""Renders a page from a template in this folder."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_page(template: str, **values: Any) -> bytes:
    """The page as one HTML file. Inserted values are escaped."""
    environment = Environment(
        loader=PackageLoader("pipeline.evaluation", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values).encode()
