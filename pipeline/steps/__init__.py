"""The steps that SageMaker jobs run, and the container they run in."""
