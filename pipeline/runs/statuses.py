"""The statuses of a pipeline's executions and steps: SageMaker's, which a run on this machine tells its own by, too."""

ENDED = ("Succeeded", "Failed", "Stopped")  # anything else goes on, also what SageMaker may add one day
GOING = ("Starting", "Executing", "Stopping")
NOT_RUN = "NotRun"  # of a step that a run on this machine passes over; SageMaker does not list it
