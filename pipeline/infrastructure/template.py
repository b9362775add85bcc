"""The synthesized template: making it, and reading it."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.infrastructure.deployment import Deployment

Template = Mapping[str, Any]
Properties = Mapping[str, Any]
EXAMPLE = Deployment("111122223333", "eu-central-1", ("eu-central-1a", "eu-central-1b"), alarm_email="team@example.com")


def synthesize_template(deployment: Deployment = EXAMPLE) -> Template:
    """The template of a deployment. Takes Node and about half a minute."""
    from pipeline.infrastructure.cdk import node_environment
    from pipeline.infrastructure.names import STACK

    os.environ.update(node_environment())  # before the CDK's library is imported
    from pipeline.infrastructure.stack import make_app

    with tempfile.TemporaryDirectory() as folder:
        make_app(deployment, Path(folder)).synth()
        template: Template = json.loads(Path(folder, f"{STACK}.template.json").read_text(encoding="utf-8"))
    return template


def resources(template: Template, kind: str, prefix: str = "") -> Iterator[Properties]:
    """The properties of each resource of a type, if its logical id starts with `prefix`."""
    for name, resource in template["Resources"].items():
        if resource["Type"] == kind and name.startswith(prefix):
            yield resource["Properties"]


def count(template: Template, kind: str) -> int:
    """The number of resources of a type."""
    return len(list(resources(template, kind)))


def only_resource(template: Template, kind: str, prefix: str = "") -> Properties:
    """The properties of the only such resource."""
    [properties] = resources(template, kind, prefix)
    return properties


def pipeline_definition(template: Template) -> dict[str, Any]:
    """The definition of the SageMaker pipeline."""
    body = only_resource(template, "AWS::SageMaker::Pipeline")["PipelineDefinition"]["PipelineDefinitionBody"]
    definition: dict[str, Any] = json.loads(as_text(body))
    return definition


def as_text(value: Any) -> str:
    """A value as text, with "x" for each part that is known only once it is deployed."""
    if isinstance(value, str):
        return value
    function, arguments = next(iter(value.items()))
    return str(arguments[0]).join(as_text(part) for part in arguments[1]) if function == "Fn::Join" else "x"
