"""The pipeline's definition: features, training, evaluation, a gate, registration, promotion.

One JSON document, in the terms of Amazon SageMaker Pipelines. SageMaker runs it as it is;
`pipeline.local` runs the same document on this machine.
"""

import json
from typing import Any

from pipeline.definition.requests import (
    EVALUATION_FILE,
    Addresses,
    evaluation_request,
    package_request,
    training_request,
)
from pipeline.definition.sdk import Sdk, offline_sdk

# As training reads them: the name and default of the pipeline's parameter.
HYPERPARAMETERS: dict[str, tuple[str, str | int | float]] = {
    "learning_rate": ("LearningRate", 0.05),
    "max_iterations": ("MaxIterations", 300),
    "max_leaf_nodes": ("MaxLeafNodes", 16),
    "l2_regularization": ("L2Regularization", 10.0),
    "max_features": ("MaxFeatures", 0.25),
    "random_seed": ("RandomSeed", 0),
    "estimator": ("Estimator", "pipeline.estimators.trees:trees"),
}
FEATURE_OUTPUTS = ("train_url", "test_url", "contract_url", "rows_accepted", "rows_refused")


def definition_json(addresses: Addresses) -> str:
    """The definition as CreatePipeline takes it. Needs no account, credentials or network; 3 to 5 seconds."""
    with offline_sdk() as sdk:
        text: str = _pipeline(addresses, sdk).definition()
    return text


def build(addresses: Addresses) -> dict[str, Any]:
    """The definition as a document, with Version, Parameters and Steps; see `definition_json`."""
    document: dict[str, Any] = json.loads(definition_json(addresses))
    return document


def _pipeline(addresses: Addresses, sdk: Sdk) -> Any:
    values, steps, conditions = sdk.values, sdk.steps, sdk.conditions

    home = sdk.parameter("HomeUrl", addresses.home_url)
    input_data = sdk.parameter("InputDataUrl", addresses.input_url)
    training_instance = sdk.parameter("TrainingInstanceType", "ml.m5.xlarge")
    processing_instance = sdk.parameter("ProcessingInstanceType", "ml.m5.xlarge")
    approval = values.ParameterString(
        "ModelApprovalStatus", default_value="Approved", enum_values=["Approved", "PendingManualApproval"]
    )
    floor = sdk.parameter("MinAveragePrecision", 0.1)
    confidence = sdk.parameter("ConfidenceLevel", 0.95)
    margin = sdk.parameter("NonInferiorityMargin", 0.03)
    lookback = sdk.parameter("LookbackDays", 180)
    forced_by = sdk.parameter("ForcedBy", "")
    alerts_per_day = sdk.parameter("AlertsPerDay", 0)
    hyperparameters = {key: sdk.parameter(*named) for key, named in HYPERPARAMETERS.items()}

    run = values.ExecutionVariables.PIPELINE_EXECUTION_ID
    evaluation = values.PropertyFile(name="evaluation", output_name="evaluation", path=EVALUATION_FILE)

    def of_run(*names: str) -> Any:
        return values.Join(on="/", values=[home, "runs", run, *names])

    def evaluated(path: str) -> Any:
        return values.JsonGet(step_name="Evaluate", property_file=evaluation, json_path=path)

    features = steps.CallbackStep(
        name="Features",
        description="Takes in new data, updates the features, writes the run's train and test sets",
        sqs_queue_url=addresses.features_queue_url,
        inputs={"run": run, "home": home, "input_url": input_data},
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
            channels={"train": prepared["train_url"], "contract": prepared["contract_url"]},
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
            inputs={"model": model_url, "test": prepared["test_url"], "contract": prepared["contract_url"]},
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
        description="Makes the registered version the one that serves",
        lambda_func=sdk.function(addresses.promote_function_arn),
        inputs={"home": home, "version": evaluated("version"), "manifest": evaluated("manifest"), "run": run},
        outputs=[steps.LambdaOutput(output_name="promoted")],
    )
    approved = steps.ConditionStep(
        name="Approved",
        description="Whether the model may serve at once, or waits for a person's approval",
        depends_on=[register],
        conditions=[conditions.ConditionEquals(left=approval, right="Approved")],
        if_steps=[promote],
    )
    rejected = registration(
        "RegisterRejected",
        "Keeps the model that did not pass, with the reason",
        status="Rejected",
        reason=evaluated("gate.reason"),
    )
    waiting = registration(
        "RegisterWaiting",
        "Keeps the model that could not be compared with the champion, for a person to approve",
        status="PendingManualApproval",
        reason=evaluated("gate.reason"),
    )
    comparable = steps.ConditionStep(
        name="Comparable",
        description="Whether the gate could tell: if not, the model waits for a person's approval",
        conditions=[conditions.ConditionEquals(left=evaluated("gate.verdict"), right="waiting")],
        if_steps=[waiting],
        else_steps=[rejected],
    )
    gate = steps.ConditionStep(
        name="Gate",
        description="Sound, good enough, and no worse than what serves; or forced",
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
        ],
        pipeline_experiment_config=None,
        steps=[features, train, evaluate, gate],
        sagemaker_session=sdk.session,
    )
