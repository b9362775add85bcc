"""The synthesized stack. Synthesizing takes half a minute, so all processes of a test run share it."""

import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from stack_template import ACCOUNT, PREFIX, REGION, ZONES, Template

from pipeline.infrastructure import cdk
from pipeline.infrastructure.deployment import Deployment

DEPLOYMENT = Deployment(ACCOUNT, REGION, ZONES)


@pytest.fixture(scope="session")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The assembly. Synthesizing fails if cdk-nag finds anything."""
    return synthesize_once(tmp_path_factory, "assembly", replace(DEPLOYMENT, alarm_email="team@example.com"))


@pytest.fixture(scope="session")
def template(synthesized: Path) -> Template:
    document: Template = json.loads((synthesized / "Fraudline.template.json").read_text())
    return document


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The template with a certificate, another event source, and joblib models allowed."""
    certificate = f"arn:aws:acm:{PREFIX}:certificate/1"
    deployment = replace(DEPLOYMENT, certificate_arn=certificate, event_sources=("test",), contract="handbook")
    folder = synthesize_once(tmp_path_factory, "emulated", replace(deployment, allow_joblib=True))
    document: Template = json.loads((folder / "Fraudline.template.json").read_text())
    return document


def synthesize_once(factory: pytest.TempPathFactory, name: str, deployment: Deployment) -> Path:
    """The assembly of a deployment; the first process that needs it synthesizes it."""
    os.environ.update(cdk.node_environment())  # before the CDK's library is imported
    from pipeline.infrastructure.stack import make_app

    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / f"synthesized-{name}"
    with (shared / f"synthesized-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            scratch = factory.mktemp(name)
            make_app(deployment, scratch).synth()
            scratch.rename(folder)
    return folder
