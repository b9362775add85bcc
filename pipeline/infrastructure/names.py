"""Names by which the parts of the deployed system are found: the stack, the pipeline, the databases, the outputs."""

from enum import StrEnum

from processing.tables.catalog import NAMESPACE

STACK = "Fraudline"
PIPELINE = "fraudline"  # the SageMaker pipeline, as Studio shows it, and its model package group
DATABASE = NAMESPACE  # the Glue database of our own tables
LANDING_DATABASE = "fraudline_landing"  # the one that other teams load tables into
DATABASES = (DATABASE, LANDING_DATABASE)
REACTIONS = ("StartRun", "StartFeatures", "FinishFeatures", "Approve", "ModelAge")  # functions that a queue feeds


class Output(StrEnum):
    """The outputs of the stack, other than those of its reactions and the settings it was deployed with."""

    HOME_URL = "HomeUrl"
    KEY_ARN = "KeyArn"
    LOGS_BUCKET = "LogsBucket"
    GLUE_JOB_NAME = "GlueJobName"
    ONLINE_TABLE = "OnlineTable"
    REPOSITORY = "Repository"
    PIPELINE_NAME = "PipelineName"
    MODEL_PACKAGE_GROUP = "ModelPackageGroup"
    API_URL = "ApiUrl"
    API_KEYS_SECRET = "ApiKeysSecret"
    API_LOG_GROUP = "ApiLogGroup"
    CLUSTER_NAME = "ClusterName"
    SERVICE_NAME = "ServiceName"
    TASK_DEFINITION = "TaskDefinition"
    ALARM_TOPIC = "AlarmTopic"
    PROMOTE_FUNCTION = "PromoteFunction"
    FEATURE_JOB_ROLE = "FeatureJobRole"
    TRAINING_ROLE = "TrainingRole"
    EVALUATION_ROLE = "EvaluationRole"
    PIPELINE_ROLE = "PipelineRole"
    API_TASK_ROLE = "ApiTaskRole"
    API_EXECUTION_ROLE = "ApiExecutionRole"
    DRIFT_ROLE = "DriftRole"
    PROMOTE_ROLE = "PromoteRole"


class ReactionOutput(StrEnum):
    """The outputs of each reaction: `of` gives their whole names, e.g. StartRunQueueUrl."""

    FUNCTION = "Function"
    QUEUE_URL = "QueueUrl"
    DEAD_URL = "DeadUrl"
    ROLE = "Role"

    def of(self, reaction: str) -> str:
        """The output's name for one of REACTIONS."""
        return f"{reaction}{self}"
