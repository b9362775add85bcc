"""The stack's template: what each role may do."""

import json
import re

import pytest
from stack_template import (
    ACCOUNT,
    Template,
    listed,
    of_type,
    permissions,
    statements,
    the,
    words,
)

pytestmark = pytest.mark.cloud


NO_RESOURCE = {  # actions that support no resource-level permissions, and the condition that narrows them
    "cloudwatch:PutMetricData": "namespace",
    "ecr:GetAuthorizationToken": "",
    "ec2:DescribeNetworkInterfaces": "",
    "ec2:DescribeVpcs": "",
    "ec2:DescribeDhcpOptions": "",
    "ec2:DescribeSubnets": "",
    "ec2:DescribeSecurityGroups": "",
}


def test_roles_use_wildcard_resources_only_for_actions_that_support_nothing_narrower(template: Template) -> None:
    for name, statement in statements(template):
        for action in listed(statement["Action"]):
            assert "*" not in action, (name, action)
        if "*" in [words(resource) for resource in listed(statement["Resource"])]:
            for action in listed(statement["Action"]):
                assert action in NO_RESOURCE, (name, action)
                assert NO_RESOURCE[action] in json.dumps(statement.get("Condition", "")), (name, action)


def test_roles_are_not_shared_and_have_no_managed_policies(template: Template) -> None:
    from pipeline.infrastructure.permissions import PASSES_ACCOUNT

    roles = of_type(template, "AWS::IAM::Role")
    for role in roles.values():
        assert "ManagedPolicyArns" not in role
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        service = statement["Principal"]["Service"]
        # Only for services that are known to pass their account: otherwise the role could not be assumed.
        assert service in (*PASSES_ACCOUNT, "glue.amazonaws.com")
        expected = {"StringEquals": {"aws:SourceAccount": ACCOUNT}} if service in PASSES_ACCOUNT else None
        assert statement.get("Condition") == expected, service
    used = [words(one["Role"]) for one in of_type(template, "AWS::Lambda::Function").values()]
    used += [words(one["Role"]) for one in of_type(template, "AWS::Glue::Job").values()]
    task = the(template, "AWS::ECS::TaskDefinition", "Api")
    used += [words(task["TaskRoleArn"]), words(task["ExecutionRoleArn"])]
    used.append(words(the(template, "AWS::ECS::TaskDefinition", "Drift")["TaskRoleArn"]))
    used.append(words(the(template, "AWS::Events::Rule", "Drift")["Targets"][0]["RoleArn"]))
    used.append(words(the(template, "AWS::SageMaker::Pipeline")["RoleArn"]))
    assert len(used) == len(set(used))
    assert len(roles) == len(used) + 2  # training and evaluation, named in the definition


def test_only_promotion_can_change_which_model_serves(template: Template) -> None:
    writers = set()
    for name in of_type(template, "AWS::IAM::Role"):
        allowed = permissions(template, name)
        denied = permissions(template, name, "Deny")
        for action, resource in allowed:
            pointed = re.fullmatch(re.escape(resource).replace(r"\*", ".*"), "data/models/latest.json")
            changes = action in ("s3:PutObject", "s3:DeleteObject")
            if pointed and changes and (action, "data/models/latest.json") not in denied:
                writers.add(re.sub(r"Triggers(\w+)Role\w{8}", r"\1", name))
    assert writers == {"Promote", "Approve"}


@pytest.mark.parametrize("name", ["Promote", "Approve"])
def test_promotion_may_read_the_contract_and_knows_which_models_the_api_loads(template: Template, name: str) -> None:
    assert "contract.toml" in of_objects(permissions(template, f"Triggers{name}Role"), "s3:GetObject")
    functions = of_type(template, "AWS::Lambda::Function").items()
    [function] = [one for key, one in functions if re.fullmatch(rf"Triggers{name}\w{{8}}", key)]
    assert function["Environment"]["Variables"]["FRAUDLINE_MODELS"] == "packed"


def of_objects(allowed: set[tuple[str, str]], *actions: str) -> set[str]:
    return {resource.removeprefix("data/") for action, resource in allowed if action in actions}


def test_the_api_may_read_models_but_no_data(template: Template) -> None:
    allowed = permissions(template, "ApiTaskRole")
    assert of_objects(allowed, "s3:GetObject") == {"models/*", "contract.toml", "contracts/*"}
    assert {action for action, _ in allowed if action.startswith("s3:")} == {"s3:GetObject", "s3:ListBucket"}
    assert all("<OnlineTable" in resource for action, resource in allowed if action.startswith("dynamodb:"))


def test_the_feature_job_may_list_unfinished_uploads(template: Template) -> None:
    assert ("s3:ListBucketMultipartUploads", "data") in permissions(template, "FeaturesRole")


def test_the_feature_job_reads_manifests_and_cannot_touch_models_or_the_landing_database(template: Template) -> None:
    allowed = permissions(template, "FeaturesRole")
    of_models = {(action, resource.removeprefix("data/")) for action, resource in allowed if "models" in resource}
    assert of_models == {("s3:GetObject", "models/latest.json"), ("s3:GetObject", "models/*/manifest.json")}
    read = {"incoming/*", "warehouse/*", "runs/*", "contract.toml", "contracts/*", "code/*"}
    assert of_objects(allowed, "s3:GetObject") >= read
    assert not any("landing" in resource for _, resource in allowed)
    assert not any(action.startswith(("sagemaker:", "iam:", "lambda:")) for action, _ in allowed)


def test_training_may_only_read_its_data_and_write_its_output(template: Template) -> None:
    allowed = permissions(template, "TrainingJobRole")
    assert of_objects(allowed, "s3:GetObject") == {"runs/*/train/*", "runs/*/contract/*", "runs/*/code/*"}
    assert of_objects(allowed, "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion") == {"runs/*/train-output/*"}
    assert not any("models/" in resource for _, resource in allowed)


def test_evaluation_may_publish_versions_and_change_nothing_else(template: Template) -> None:
    allowed = permissions(template, "TrainingEvaluationRole")
    assert of_objects(allowed, "s3:GetObject") == {"runs/*", "models/*"}
    assert of_objects(allowed, "s3:PutObject") == {"runs/*/evaluation/*", "models/*"}
    assert of_objects(allowed, "s3:DeleteObject", "s3:DeleteObjectVersion") == set()
    denied = permissions(template, "TrainingEvaluationRole", "Deny")
    for action in ("s3:PutObject", "s3:DeleteObject"):
        assert {(action, "data/models/latest.json"), (action, "data/models/history/*")} <= denied


def writers_over(template: Template, key: str) -> set[str]:
    """The roles that may put an object under a key even if it exists."""
    writers = set()
    for name in of_type(template, "AWS::IAM::Role"):
        allowed, denied = False, False
        for _, one in statements(template, name):
            resources = [re.sub(r"<DataBucket\w+\.Arn>/?", "", words(resource)) for resource in listed(one["Resource"])]
            fits = any(re.fullmatch(re.escape(resource).replace(r"\*", ".*"), key) for resource in resources)
            if fits and "s3:PutObject" in listed(one["Action"]):
                # Denying requests without `If-None-Match` denies every request that would overwrite an object.
                allowed |= one["Effect"] == "Allow"
                denied |= one["Effect"] == "Deny" and one.get("Condition") in (
                    None,
                    {"Null": {"s3:if-none-match": "true"}},
                )
        if allowed and not denied:
            writers.add(name)
    return writers


@pytest.mark.parametrize(
    "key",
    [
        "models/20261122T103000Z-baf3f/model.joblib",
        "models/20261122T103000Z-baf3f/manifest.json",
        "models/history/1.json",
    ],
)
def test_no_role_may_overwrite_a_published_file_or_a_record(template: Template, key: str) -> None:
    assert writers_over(template, key) == set()
    assert len(writers_over(template, "models/latest.json")) == 2
    assert (
        len(writers_over(template, "runs/r/evaluation/evaluation.json")) == 2
    )  # the feature job clears a run's folder


def test_joblib_models_are_loaded_only_where_the_deployment_allows_it(template: Template, emulated: Template) -> None:
    """Both in the API and in evaluation."""
    for one, models in ((template, "packed"), (emulated, "any")):
        [container] = the(one, "AWS::ECS::TaskDefinition", "Api")["ContainerDefinitions"]
        assert {"Name": "FRAUDLINE_MODELS", "Value": models} in container["Environment"]
        body = json.loads(words(the(one, "AWS::SageMaker::Pipeline")["PipelineDefinition"]["PipelineDefinitionBody"]))
        [evaluate] = [step["Arguments"] for step in body["Steps"] if step["Name"] == "Evaluate"]
        assert (evaluate["Environment"].get("FRAUDLINE_MODELS") == "packed") == (models == "packed")


def test_the_pipeline_may_pass_only_the_roles_of_its_jobs(template: Template) -> None:
    passes = [(who, one) for who, one in statements(template) if "iam:PassRole" in listed(one["Action"])]
    for who, one in passes:  # starting a task requires passing its roles; nothing else may pass any
        if who.startswith("DriftStarterRole"):
            roles = [words(resource) for resource in listed(one["Resource"])]
            assert all(role.startswith(("<ApiExecutionRole", "<DriftRole")) for role in roles)
    [statement] = [one for who, one in passes if not who.startswith("DriftStarterRole")]
    roles_passed = sorted(re.sub(r"\w{8}\.Arn>", "", words(resource)) for resource in listed(statement["Resource"]))
    assert roles_passed == ["<TrainingEvaluationRole", "<TrainingJobRole"]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
