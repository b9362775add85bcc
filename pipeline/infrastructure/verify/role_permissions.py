"""What each role must be able to do, and what it must not.

A permission is an action and a resource: a name that `iam_roles.Resources` knows, or a key of the home's bucket.
"""

from pipeline.infrastructure.names import Output, ReactionOutput

Permission = tuple[str, str]

ROLE = ReactionOutput.ROLE
ROLES: dict[str, str] = {  # output of the role's ARN -> the service that may assume it
    Output.FEATURE_JOB_ROLE: "glue.amazonaws.com",
    Output.TRAINING_ROLE: "sagemaker.amazonaws.com",
    Output.EVALUATION_ROLE: "sagemaker.amazonaws.com",
    Output.PIPELINE_ROLE: "sagemaker.amazonaws.com",
    Output.API_TASK_ROLE: "ecs-tasks.amazonaws.com",
    Output.API_EXECUTION_ROLE: "ecs-tasks.amazonaws.com",
    Output.PROMOTE_ROLE: "lambda.amazonaws.com",
    ROLE.of("StartRun"): "lambda.amazonaws.com",
    ROLE.of("StartFeatures"): "lambda.amazonaws.com",
    ROLE.of("FinishFeatures"): "lambda.amazonaws.com",
    ROLE.of("Approve"): "lambda.amazonaws.com",
    ROLE.of("ModelAge"): "lambda.amazonaws.com",
    Output.DRIFT_ROLE: "ecs-tasks.amazonaws.com",
}
NEEDS: dict[str, list[Permission]] = {
    Output.FEATURE_JOB_ROLE: [
        ("s3:GetObject", "incoming/a.csv"),
        ("s3:DeleteObject", "incoming/a.csv"),
        ("s3:PutObject", "archive/a.csv"),
        ("s3:ListBucketMultipartUploads", "bucket"),
        ("s3:PutObject", "warehouse/features/data/a.parquet"),
        ("s3:PutObject", "runs/r/train/a.parquet"),
        ("s3:PutObject", "runs/r/earlier/d/a.parquet"),
        ("s3:GetObject", "code/d.zip"),
        ("s3:PutObject", "runs/r/code/code.zip"),
        ("s3:GetObject", "models/latest.json"),
        ("s3:GetObject", "models/v/manifest.json"),
        ("dynamodb:UpdateItem", "table"),
        ("dynamodb:Query", "index"),
        ("kms:GenerateDataKey", "key"),
        ("glue:UpdateTable", "catalog-table"),
    ],
    Output.TRAINING_ROLE: [
        ("s3:GetObject", "runs/r/train/a.parquet"),
        ("s3:GetObject", "runs/r/code/code.zip"),
        ("s3:PutObject", "runs/r/train-output/a/output/model.tar.gz"),
        ("kms:Encrypt", "key"),
        ("kms:GenerateDataKey", "key"),
    ],
    Output.EVALUATION_ROLE: [
        ("s3:GetObject", "runs/r/code/code.zip"),
        ("s3:GetObject", "runs/r/train-output/a/output/model.tar.gz"),
        ("s3:GetObject", "models/latest.json"),
        ("s3:PutObject", "runs/r/evaluation/evaluation.json"),
        ("s3:PutObject", "models/v/manifest.json"),
        ("kms:Encrypt", "key"),
        ("kms:GenerateDataKey", "key"),
    ],
    Output.PIPELINE_ROLE: [
        ("sqs:SendMessage", "features-queue"),
        ("lambda:InvokeFunction", "promote"),
        ("sagemaker:CreateTrainingJob", "training-job"),
        ("sagemaker:CreateModelPackage", "package"),
        ("s3:GetObject", "runs/r/evaluation/evaluation.json"),
    ],
    Output.API_TASK_ROLE: [
        ("s3:GetObject", "models/latest.json"),
        ("s3:GetObject", "models/v/scorer.npz"),
        ("dynamodb:UpdateItem", "table"),
        ("dynamodb:Query", "index"),
        ("kms:Decrypt", "key"),
    ],
    Output.API_EXECUTION_ROLE: [("secretsmanager:GetSecretValue", "secret"), ("ecr:BatchGetImage", "repository")],
    Output.PROMOTE_ROLE: [
        ("s3:GetObject", "models/v/manifest.json"),
        ("s3:GetObject", "contract.toml"),
        ("s3:PutObject", "models/latest.json"),
        ("s3:PutObject", "models/history/00000001.json"),
    ],
    ROLE.of("StartRun"): [("sagemaker:StartPipelineExecution", "pipeline"), ("sqs:ReceiveMessage", "runs-queue")],
    ROLE.of("StartFeatures"): [("glue:StartJobRun", "job"), ("sagemaker:SendPipelineExecutionStepFailure", "pipeline")],
    ROLE.of("FinishFeatures"): [
        ("glue:GetJobRun", "job"),
        ("s3:GetObject", "runs/r/features.json"),
        ("sagemaker:SendPipelineExecutionStepSuccess", "pipeline"),
    ],
    ROLE.of("Approve"): [
        ("sagemaker:DescribeModelPackage", "package"),
        ("s3:GetObject", "contract.toml"),
        ("s3:PutObject", "models/latest.json"),
        ("s3:PutObject", "models/history/00000001.json"),
    ],
    ROLE.of("ModelAge"): [("s3:GetObject", "models/latest.json")],
    Output.DRIFT_ROLE: [("s3:GetObject", "models/v/reference.json"), ("dynamodb:Query", "index")],
}
RAW = [(action, key) for action in ("s3:GetObject", "s3:PutObject") for key in ("incoming/a.csv", "archive/a.csv")]
TABLES = [("s3:GetObject", "warehouse/transactions/data/a.parquet")]
LATEST = [
    (f"s3:{verb}Object", key)
    for verb in ("Put", "Delete")
    for key in ("models/latest.json", "models/history/00000001.json")
]
CODE = [("s3:PutObject", "code/d.zip"), ("s3:PutObject", "runs/r/code/code.zip")]
VERDICT = [("s3:PutObject", "runs/r/evaluation/evaluation.json")]
WRITE_ONCE: dict[str, str] = {  # keys that a role may write but not overwrite
    Output.EVALUATION_ROLE: "models/*",
    Output.PROMOTE_ROLE: "models/history/*",
    ROLE.of("Approve"): "models/history/*",
}
MODELS = [("s3:PutObject", "models/v/model.joblib"), ("s3:DeleteObject", "models/v/model.joblib")]
ACCOUNT = [
    ("iam:PutRolePolicy", Output.API_TASK_ROLE),
    ("s3:DeleteBucket", "bucket"),
    ("kms:ScheduleKeyDeletion", "key"),
]
MUST_NOT: dict[str, list[Permission]] = {
    Output.FEATURE_JOB_ROLE: [
        *(*MODELS, *LATEST, CODE[0]),
        ("s3:GetObject", "models/v/model.joblib"),
        ("glue:StartJobRun", "job"),
    ],
    Output.TRAINING_ROLE: [
        *(*RAW, *TABLES, *LATEST, *MODELS, *VERDICT, *CODE),
        ("s3:GetObject", "runs/r/test/a.parquet"),
    ],
    Output.EVALUATION_ROLE: [*RAW, *TABLES, *LATEST, MODELS[1], ("dynamodb:GetItem", "table")],
    Output.PIPELINE_ROLE: [*RAW, *TABLES, *LATEST, *MODELS, *VERDICT, ("dynamodb:GetItem", "table")],
    Output.API_TASK_ROLE: [*RAW, *TABLES, *LATEST, *MODELS, *CODE, ("secretsmanager:GetSecretValue", "secret")],
    Output.API_EXECUTION_ROLE: [*RAW, *TABLES, *LATEST, *MODELS, ("dynamodb:GetItem", "table")],
    Output.PROMOTE_ROLE: [*RAW, *TABLES, *MODELS, ("sagemaker:StartPipelineExecution", "pipeline")],
    ROLE.of("StartRun"): [*RAW, *TABLES, *LATEST, *MODELS, ("glue:StartJobRun", "job")],
    ROLE.of("StartFeatures"): [*RAW, *TABLES, *LATEST, *MODELS, ("sagemaker:StartPipelineExecution", "pipeline")],
    ROLE.of("FinishFeatures"): [*RAW, *TABLES, *LATEST, *MODELS, ("glue:StartJobRun", "job")],
    ROLE.of("Approve"): [*RAW, *TABLES, *MODELS, ("sagemaker:CreateModelPackage", "package")],
    ROLE.of("ModelAge"): [*RAW, *TABLES, *LATEST, *MODELS],
    Output.DRIFT_ROLE: [*RAW, *TABLES, *LATEST, *MODELS, ("dynamodb:UpdateItem", "table")],
}
