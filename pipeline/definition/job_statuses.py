"""The statuses of a run of the Glue job."""

GOING = ("STARTING", "RUNNING", "STOPPING", "WAITING")
ENDED = ("SUCCEEDED", "FAILED", "TIMEOUT", "STOPPED", "ERROR", "EXPIRED")  # what a waiting step is told of
