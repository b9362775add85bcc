"""The model side: training, evaluation, registry, the SageMaker pipeline and its local execution."""
