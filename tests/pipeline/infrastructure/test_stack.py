"""The whole stack: static checks, its size and outputs, and the files generated from its template."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from stack_template import (
    ACCOUNT,
    REGION,
    ZONES,
    Template,
    of_type,
    the,
)

from pipeline.infrastructure.cost.stack_sizes import read_sizes, sizes_of
from pipeline.infrastructure.deployment import SETTINGS_OUTPUT
from pipeline.infrastructure.names import REACTIONS, Output, ReactionOutput

pytestmark = pytest.mark.cloud


def test_cfn_lint_finds_no_errors(synthesized: Path) -> None:
    lint = Path(sys.executable).parent / "cfn-lint"
    result = subprocess.run(
        [str(lint), "--regions", REGION, "--ignore-checks", "W", "--", str(synthesized / "Fraudline.template.json")],
        capture_output=True,
        text=True,
    )
    assert result.stdout == ""
    assert result.returncode == 0


def test_cdk_nag_reports_a_loose_permission(synthesized: Path, tmp_path: Path) -> None:
    from aws_cdk import aws_iam as iam

    from pipeline.infrastructure.deployment import Deployment
    from pipeline.infrastructure.stack import make_app

    app = make_app(Deployment(ACCOUNT, REGION, ZONES), tmp_path)
    stack = app.node.find_child("Fraudline")
    role = iam.Role(stack, "Loose", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    role.add_to_policy(iam.PolicyStatement(actions=["s3:*"], resources=["*"]))
    with pytest.raises(Exception, match=r"AwsSolutions-IAM5\[Action::s3:\*\]"):
        app.synth()


def test_each_acknowledgement_covers_one_resource_and_has_a_reason(synthesized: Path) -> None:
    metadata = json.loads((synthesized / "Fraudline.metadata.json").read_text())
    acknowledged = [
        (path, rule, reason)
        for path, entries in metadata.items()
        for entry in entries
        if entry["type"] == "aws:cdk:acknowledged-rules" and path != "/Fraudline"
        for rule, reason in entry["data"].items()
        if "AwsSolutions" in rule
    ]
    rules = {re.sub(r".*AwsSolutions-(\w+).*", r"\1", rule) for _, rule, _ in acknowledged}
    assert rules == {"ECS2", "IAM5", "S1", "SMG4"}
    for path, rule, reason in acknowledged:
        assert path.count("/") >= 3, path  # the construct of a resource, not the stack or one of its parts
        assert "IAM5" not in rule or "[Resource::" in rule, rule
        assert len(reason) > 25, (path, rule, reason)


def test_the_stack_has_the_expected_size_and_outputs(template: Template) -> None:
    assert len(template["Resources"]) == 145
    custom = [resource["Type"] for resource in template["Resources"].values() if "Custom" in resource["Type"]]
    assert custom == []
    outputs = {*Output, *(output.of(reaction) for reaction in REACTIONS for output in ReactionOutput)}
    assert set(template["Outputs"]) == {*outputs, SETTINGS_OUTPUT}
    settings = json.loads(template["Outputs"]["Settings"]["Value"])
    assert settings == {"FRAUDLINE_ALARM_EMAIL": "team@example.com", "FRAUDLINE_ZONES": ",".join(ZONES)}


def test_the_sizes_behind_the_bill_are_up_to_date(template: Template) -> None:
    """stack_sizes.json is what `make rationale` would write."""
    assert the(template, "AWS::Glue::Job")["WorkerType"] == "G.1X"  # one DPU each
    assert of_type(template, "AWS::EC2::NatGateway") == {}
    assert read_sizes() == sizes_of(template)


def parts(document: bytes) -> dict[str, bytes]:
    """The parts of a .docx file by name."""
    with zipfile.ZipFile(io.BytesIO(document)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_rationale_is_up_to_date(template: Template) -> None:
    """service_rationale.docx is what `make rationale` would write."""
    from matplotlib.image import imread

    from pipeline.infrastructure.rationale.__main__ import FILE, rationale

    committed, current = parts(FILE.read_bytes()), parts(rationale(template))
    assert set(committed) == set(current)
    for name, content in current.items():
        if name.endswith(".png"):  # compression differs between machines
            assert np.array_equal(imread(io.BytesIO(committed[name])), imread(io.BytesIO(content)))
        else:
            assert committed[name] == content, f"{name} has changed: run `make rationale`"
