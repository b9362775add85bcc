"""Pipeline runs: on this machine, in AWS, of the demo; and what is left of those that were killed."""
