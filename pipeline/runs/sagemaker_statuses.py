"""The statuses of SageMaker's pipeline executions and steps. A run on this machine uses the same ones."""

ENDED = ("Succeeded", "Failed", "Stopped")  # every other status, also one that SageMaker adds later, is in progress
GOING = ("Starting", "Executing", "Stopping")
NOT_RUN = "NotRun"  # a step that a local run skips; SageMaker does not list such a step
