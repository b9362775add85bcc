"""The stack's template: the pipeline, the image, the jobs."""

import json
import re

import pytest
from stack_template import (
    REGION,
    Template,
    permissions,
    the,
    words,
)

pytestmark = pytest.mark.cloud


def test_the_deployed_pipeline_is_the_definition_with_the_addresses_of_this_deployment(template: Template) -> None:
    from pipeline.definition.pipeline import build_definition
    from pipeline.definition.requests import Addresses

    resource = the(template, "AWS::SageMaker::Pipeline")
    body = json.loads(words(resource["PipelineDefinition"]["PipelineDefinitionBody"]))
    home = body["Parameters"][0]["DefaultValue"]
    assert re.fullmatch(r"s3://<DataBucket\w+>", home)
    steps = {step["Name"]: step for step in body["Steps"]}
    train, evaluate = steps["Train"]["Arguments"], steps["Evaluate"]["Arguments"]
    image = train["AlgorithmSpecification"]["TrainingImage"]
    assert image == evaluate["AppSpecification"]["ImageUri"]
    gate = {step["Name"]: step for step in steps["Gate"]["Arguments"]["IfSteps"]}
    [promote] = gate["Approved"]["Arguments"]["IfSteps"]
    again = build_definition(
        Addresses(
            image=image,
            features_queue_url=steps["Features"]["SqsQueueUrl"],
            promote_function_arn=promote["FunctionArn"],
            training_role_arn=train["RoleArn"],
            evaluation_role_arn=evaluate["RoleArn"],
            packed_only=True,
            region=REGION,
            home_url=home,
            input_url=f"{home}/incoming/",
            kms_key=train["ResourceConfig"]["VolumeKmsKeyId"],
            subnets=tuple(train["VpcConfig"]["Subnets"]),
            security_groups=tuple(train["VpcConfig"]["SecurityGroupIds"]),
        )
    )
    assert again == body
    assert re.fullmatch(r"<TriggersStartFeaturesQueue\w+>", steps["Features"]["SqsQueueUrl"])
    assert re.fullmatch(r"<TriggersPromote\w+\.Arn>", promote["FunctionArn"])
    assert re.fullmatch(r"<TrainingJobRole\w+\.Arn>", train["RoleArn"])
    assert re.fullmatch(r"<TrainingEvaluationRole\w+\.Arn>", evaluate["RoleArn"])


def test_one_image_trains_evaluates_and_serves(template: Template) -> None:
    body = words(the(template, "AWS::SageMaker::Pipeline")["PipelineDefinition"]["PipelineDefinitionBody"])
    [container] = the(template, "AWS::ECS::TaskDefinition", "Api")["ContainerDefinitions"]
    tag = "{'Fn::If': ['HasImage', {'Ref': 'ImageTag'}, 'none']}"
    assert body.count(tag) == 5  # training, evaluation, and the packages of the three outcomes
    assert "<TrainingImages" in words(container["Image"])
    assert words(container["Image"]).endswith(f":{tag}")
    repository = the(template, "AWS::ECR::Repository")
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    for one in json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]:
        assert one["selection"]["tagStatus"] == "untagged"  # a tagged image may be in use, however old


def test_jobs_get_their_region_and_may_encrypt_their_output(template: Template) -> None:
    body = json.loads(words(the(template, "AWS::SageMaker::Pipeline")["PipelineDefinition"]["PipelineDefinitionBody"]))
    steps = {step["Name"]: step["Arguments"] for step in body["Steps"]}
    for name in ("Train", "Evaluate"):
        assert steps[name]["Environment"]["AWS_DEFAULT_REGION"] == REGION
    for role in ("TrainingJobRole", "TrainingEvaluationRole"):
        assert "kms:Encrypt" in {action for action, resource in permissions(template, role) if "DataKey" in resource}
