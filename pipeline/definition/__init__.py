"""The SageMaker pipeline's definition: its steps, their requests, its defaults, and the SDK that writes it."""
