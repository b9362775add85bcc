"""The names of the CloudWatch metrics that alarms watch. Imports nothing."""

NAMESPACE = "Fraudline"
MODEL_AGE, MODEL_AGE_SERVICE = "ModelAgeDays", "fraudline-model-age"
FEATURE_DRIFT, SCORE_DRIFT, DRIFT_SERVICE = "FeatureDrift", "ScoreDrift", "fraudline-drift"
