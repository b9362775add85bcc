"""Runs the SageMaker pipeline's definition on this machine: `LocalExecution`, see `execution.py`."""

from pipeline.local.events import StepEvent
from pipeline.local.execution import LocalExecution
from pipeline.local.run_record import Failure, Outcome
from pipeline.local.services import Bindings

__all__ = ["Bindings", "Failure", "LocalExecution", "Outcome", "StepEvent"]
