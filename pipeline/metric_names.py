"""What the parts call their metrics in CloudWatch, for the alarms that watch them. Imports nothing."""

NAMESPACE = "Fraudline"
MODEL_AGE, MODEL_AGE_SERVICE = "ModelAgeDays", "fraudline-model-age"
DRIFT_SERVICE = "fraudline-drift"
