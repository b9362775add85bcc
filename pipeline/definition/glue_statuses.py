"""The statuses of a run of the Glue job."""

GOING = ("STARTING", "RUNNING", "STOPPING", "WAITING")
ENDED = ("SUCCEEDED", "FAILED", "TIMEOUT", "STOPPED", "ERROR", "EXPIRED")  # the waiting pipeline step gets a callback
