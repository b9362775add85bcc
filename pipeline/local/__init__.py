"""The SageMaker pipeline's definition executed on this machine: `LocalExecution`, see `execution.py`."""

from pipeline.local.execution import Bindings, Failure, LocalExecution, Outcome, StepEvent

__all__ = ["Bindings", "Failure", "LocalExecution", "Outcome", "StepEvent"]
