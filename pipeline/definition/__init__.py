"""The SageMaker pipeline: its steps, their requests, and the SDK that writes it down."""
