"""The pipeline's definition: features, training, evaluation, a gate, registration, promotion.

It is one JSON document for Amazon SageMaker Pipelines. `pipeline.local` runs the same document on this machine.
"""

import json
from typing import Any

from pipeline.definition import defaults
from pipeline.definition.defaults import HYPERPARAMETERS
from pipeline.definition.requests import (
    EVALUATION_FILE,
    Addresses,
    evaluation_request,
    package_request,
    training_request,
)
from pipeline.definition.sdk import Sdk, offline_sdk

FEATURE_OUTPUTS = ("train_url", "test_url", "contract_url", "code_url", "rows_accepted", "rows_refused")


def definition_json(addresses: Addresses) -> str:
    """The definition as text for CreatePipeline. Takes 3 to 5 seconds, and no account, credentials or network."""
    with offline_sdk() as sdk:
        text: str = _pipeline(addresses, sdk).definition()
    return text


def build_definition(addresses: Addresses) -> dict[str, Any]:
    """The definition as a document with Version, Parameters and Steps; see `definition_json`."""
    document: dict[str, Any] = json.loads(definition_json(addresses))
    return document


def _pipeline(addresses: Addresses, sdk: Sdk) -> Any:
    values, steps, conditions = sdk.values, sdk.steps, sdk.conditions

    home = sdk.parameter("HomeUrl", addresses.home_url)
    input_data = sdk.parameter("InputDataUrl", addresses.input_url)
    training_instance = sdk.parameter("TrainingInstanceType", defaults.INSTANCE_TYPE)
    processing_instance = sdk.parameter("ProcessingInstanceType", defaults.INSTANCE_TYPE)
    approval = values.ParameterString(
        "ModelApprovalStatus", default_value="Approved", enum_values=["Approved", "PendingManualApproval"]
    )
    floor = sdk.parameter("MinAveragePrecision", defaults.MIN_AVERAGE_PRECISION)
    confidence = sdk.parameter("ConfidenceLevel", defaults.CONFIDENCE_LEVEL)
    margin = sdk.parameter("NonInferiorityMargin", defaults.NON_INFERIORITY_MARGIN)
    lookback = sdk.parameter("LookbackDays", defaults.LOOKBACK_DAYS)
    forced_by = sdk.parameter("ForcedBy", "")
    alerts_per_day = sdk.parameter("AlertsPerDay", 0)
    code = sdk.parameter("Code", "")
    hyperparameters = {key: sdk.parameter(*parameter) for key, parameter in HYPERPARAMETERS.items()}

    run = values.ExecutionVariables.PIPELINE_EXECUTION_ID
    evaluation = values.PropertyFile(name="evaluation", output_name="evaluation", path=EVALUATION_FILE)

    def of_run(*names: str) -> Any:
        return values.Join(on="/", values=[home, "runs", run, *names])

    def evaluated(path: str) -> Any:
        return values.JsonGet(step_name="Evaluate", property_file=evaluation, json_path=path)

    features = steps.CallbackStep(
        name="Features",
        description="Reads new files, updates the features, writes the run's train and test sets",
        sqs_queue_url=addresses.features_queue_url,
        inputs={"run": run, "home": home, "input_url": input_data, "code": code},
        outputs=[steps.CallbackOutput(output_name=name) for name in FEATURE_OUTPUTS],
    )
    prepared = features.properties.Outputs

    train = sdk.request_step(
        "Train",
        "Training",
        "Trains a challenger on the run's train set",
        training_request(
            addresses,
            instance_type=training_instance,
            channels={
                "train": prepared["train_url"],
                "contract": prepared["contract_url"],
                "code": prepared["code_url"],
            },
            hyperparameters={
                "alerts_per_day": alerts_per_day.to_string(),
                **{key: value.to_string() for key, value in hyperparameters.items()},
            },
            output_url=of_run("train-output"),
        ),
    )
    model_url = train.properties.ModelArtifacts.S3ModelArtifacts

    evaluate = sdk.request_step(
        "Evaluate",
        "Processing",
        "Measures challenger and champion on the same test rows",
        evaluation_request(
            addresses,
            instance_type=processing_instance,
            arguments=[
                *("--home", home, "--run", run),
                *("--floor", floor.to_string(), "--confidence", confidence.to_string()),
                *("--margin", margin.to_string(), "--lookback-days", lookback.to_string()),
                values.Join(on="", values=["--forced-by=", forced_by]),
            ],
            inputs={
                "model": model_url,
                "test": prepared["test_url"],
                "contract": prepared["contract_url"],
                "code": prepared["code_url"],
            },
            output_url=of_run("evaluation"),
        ),
        property_files=[evaluation],
    )

    def registration(name: str, description: str, status: Any, reason: Any = None) -> Any:
        request = package_request(
            addresses,
            model_url=model_url,
            metrics_url=of_run("evaluation", EVALUATION_FILE),
            metadata={"version": evaluated("version"), "manifest": evaluated("manifest"), "run": run},
            status=status,
            reason=reason,
        )
        return sdk.request_step(name, "RegisterModel", description, request)

    register = registration("Register", "Registers the model that passed the gate", approval)
    promote = steps.LambdaStep(
        name="Promote",
        description="Makes the registered version the serving model",
        lambda_func=sdk.function(addresses.promote_function_arn),
        inputs={"home": home, "version": evaluated("version"), "manifest": evaluated("manifest"), "run": run},
        outputs=[steps.LambdaOutput(output_name="promoted")],
    )
    approved = steps.ConditionStep(
        name="Approved",
        description="Whether the model may serve at once or waits for approval",
        depends_on=[register],
        conditions=[conditions.ConditionEquals(left=approval, right="Approved")],
        if_steps=[promote],
    )
    rejected = registration(
        "RegisterRejected",
        "Registers the model as Rejected, with the reason",
        status="Rejected",
        reason=evaluated("gate.reason"),
    )
    waiting = registration(
        "RegisterWaiting",
        "Registers the model that could not be compared with the champion, to wait for approval",
        status="PendingManualApproval",
        reason=evaluated("gate.reason"),
    )
    comparable = steps.ConditionStep(
        name="Comparable",
        description="Whether the gate reached a verdict; if not, the model waits for approval",
        conditions=[conditions.ConditionEquals(left=evaluated("gate.verdict"), right="waiting")],
        if_steps=[waiting],
        else_steps=[rejected],
    )
    gate = steps.ConditionStep(
        name="Gate",
        description="Whether the model passed the checks, the floor and the comparison with the champion, or is forced",
        conditions=[conditions.ConditionIn(value=evaluated("gate.verdict"), in_values=["passed", "forced"])],
        if_steps=[register, approved],
        else_steps=[comparable],
    )

    return steps.Pipeline(
        name=addresses.pipeline_name,
        parameters=[
            *(home, input_data, training_instance, processing_instance),
            *(approval, alerts_per_day, floor, confidence, margin, lookback, forced_by),
            *hyperparameters.values(),
            code,
        ],
        pipeline_experiment_config=None,
        steps=[features, train, evaluate, gate],
        sagemaker_session=sdk.session,
    )
