"""The requests of the pipeline's steps, as the SageMaker API takes them.

Values may be the SDK's pipeline variables, which stand for values that are known only during a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EVALUATION_FILE = "evaluation.json"
PROCESSING = "/opt/ml/processing"
CONTENT_TYPE = "application/json"
# On busy cores, OpenMP threads that wait actively cost several times the work itself.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Addresses:
    """Where a deployment's parts are. An address that is None becomes a parameter that every run must set.

    image: the image of training, evaluation and serving
    features_queue_url: the SQS queue for runs that need features
    training_role_arn: the role of training, which runs an experiment's own code
    evaluation_role_arn: the role of evaluation, the only one that publishes models and their verdicts
    packed_only: whether evaluation refuses models that it would have to unpickle; else its environment decides
    region: of the jobs; SageMaker does not always set it in their containers
    kms_key, subnets, security_groups: set on the jobs if not empty
    """

    image: str
    features_queue_url: str
    promote_function_arn: str
    training_role_arn: str
    evaluation_role_arn: str
    pipeline_name: str = "fraudline"
    model_package_group: str = "fraudline"
    home_url: str | None = None
    input_url: str | None = None
    packed_only: bool = False
    region: str | None = None
    kms_key: str | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()


LOCAL_ADDRESSES = Addresses(
    image="fraudline:local",
    features_queue_url="local:features",
    promote_function_arn="arn:aws:lambda:local:000000000000:function:fraudline-promote",
    training_role_arn="arn:aws:iam::000000000000:role/fraudline-local-training",
    evaluation_role_arn="arn:aws:iam::000000000000:role/fraudline-local-evaluation",
)


def training_request(
    addresses: Addresses,
    *,
    instance_type: Any,
    channels: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
    output_url: Any,
) -> dict[str, Any]:
    """CreateTrainingJob for `pipeline.steps.train`, without the job's name, which SageMaker adds."""
    resources = {"InstanceType": instance_type, "InstanceCount": 1, "VolumeSizeInGB": 30}
    output = {"S3OutputPath": output_url}
    if addresses.kms_key:
        resources["VolumeKmsKeyId"] = addresses.kms_key
        output["KmsKeyId"] = addresses.kms_key
    request = {
        "AlgorithmSpecification": {
            "TrainingImage": addresses.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "-m", "pipeline.steps.train"],
        },
        "RoleArn": addresses.training_role_arn,
        "HyperParameters": dict(hyperparameters),
        "InputDataConfig": [
            {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": url, **_whole_prefix()}}}
            for name, url in channels.items()
        ],
        "OutputDataConfig": output,
        "ResourceConfig": resources,
        "StoppingCondition": {"MaxRuntimeInSeconds": 7200},
        "Environment": _environment(addresses),
    }
    if addresses.subnets:
        request["VpcConfig"] = _network(addresses)
    return request


def evaluation_request(
    addresses: Addresses,
    *,
    instance_type: Any,
    arguments: Sequence[Any],
    inputs: Mapping[str, Any],
    output_url: Any,
) -> dict[str, Any]:
    """CreateProcessingJob for `pipeline.steps.evaluate`. Each input is found at /opt/ml/processing/<name>."""
    cluster = {"InstanceType": instance_type, "InstanceCount": 1, "VolumeSizeInGB": 30}
    output: dict[str, Any] = {
        "Outputs": [
            {
                "OutputName": "evaluation",
                "S3Output": {
                    "S3Uri": output_url,
                    "LocalPath": f"{PROCESSING}/evaluation",
                    "S3UploadMode": "EndOfJob",
                },
            }
        ]
    }
    if addresses.kms_key:
        cluster["VolumeKmsKeyId"] = addresses.kms_key
        output["KmsKeyId"] = addresses.kms_key
    request = {
        "AppSpecification": {
            "ImageUri": addresses.image,
            "ContainerEntrypoint": ["python3", "-m", "pipeline.steps.evaluate"],
            "ContainerArguments": list(arguments),
        },
        "RoleArn": addresses.evaluation_role_arn,
        "ProcessingInputs": [
            {
                "InputName": name,
                "S3Input": {
                    "S3Uri": url,
                    "LocalPath": f"{PROCESSING}/{name}",
                    "S3InputMode": "File",
                    **_whole_prefix(),
                },
            }
            for name, url in inputs.items()
        ],
        "ProcessingOutputConfig": output,
        "ProcessingResources": {"ClusterConfig": cluster},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "Environment": _environment(addresses) | ({"FRAUDLINE_MODELS": "packed"} if addresses.packed_only else {}),
    }
    if addresses.subnets:
        request["NetworkConfig"] = {"VpcConfig": _network(addresses)}
    return request


def package_request(
    addresses: Addresses,
    *,
    model_url: Any,
    metrics_url: Any,
    metadata: Mapping[str, Any],
    status: Any,
    reason: Any = None,
) -> dict[str, Any]:
    """CreateModelPackage: the model, its metrics and its approval status.

    The reason becomes the package's description, since ApprovalDescription can only be set by a later update.
    """
    request = {
        "ModelPackageGroupName": addresses.model_package_group,
        "ModelApprovalStatus": status,
        "InferenceSpecification": {
            "Containers": [{"Image": addresses.image, "ModelDataUrl": model_url}],
            "SupportedContentTypes": [CONTENT_TYPE],
            "SupportedResponseMIMETypes": [CONTENT_TYPE],
        },
        "ModelMetrics": {"ModelQuality": {"Statistics": {"ContentType": CONTENT_TYPE, "S3Uri": metrics_url}}},
        "CustomerMetadataProperties": dict(metadata),
    }
    if reason is not None:
        request["ModelPackageDescription"] = reason
    return request


def _whole_prefix() -> dict[str, str]:
    return {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated"}


def _environment(addresses: Addresses) -> dict[str, str]:
    return ENVIRONMENT | ({"AWS_DEFAULT_REGION": addresses.region} if addresses.region else {})


def _network(addresses: Addresses) -> dict[str, list[str]]:
    return {"Subnets": list(addresses.subnets), "SecurityGroupIds": list(addresses.security_groups)}
