"""The entry points of the SageMaker jobs."""
