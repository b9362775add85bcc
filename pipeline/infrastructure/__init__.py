"""The system in AWS: every construct of the stack, its deployment, what it costs and why it is so."""
