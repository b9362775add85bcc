"""Pipeline runs on this machine, in AWS and in the demo; the check and repair of the home they leave."""
