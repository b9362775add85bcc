"""The stack as a template: what is deployed, who may do what, and what the static checks say of it."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT

from pipeline.infrastructure import aws_errors, cdk, target
from pipeline.infrastructure.cost.stack_sizes import read_sizes, sizes_of
from processing.errors import FraudlineError

pytestmark = pytest.mark.cloud

Template = dict[str, Any]
ACCOUNT, REGION = "111122223333", "eu-west-1"
ZONES = ("eu-west-1a", "eu-west-1c")
PREFIX = f"{REGION}:{ACCOUNT}"


@pytest.fixture(scope="session")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The assembly; synthesizing fails if cdk-nag finds anything."""
    os.environ.update(cdk.node_environment())  # before the CDK's library is imported
    from pipeline.infrastructure.deployment import Deployment
    from pipeline.infrastructure.stack import make_app

    folder = tmp_path_factory.mktemp("assembly")
    make_app(Deployment(ACCOUNT, REGION, ZONES, alarm_email="team@example.com"), folder).synth()
    return folder


@pytest.fixture(scope="session")
def template(synthesized: Path) -> Template:
    document: Template = json.loads((synthesized / "Fraudline.template.json").read_text())
    return document


@pytest.fixture(scope="session")
def emulated(synthesized: Path, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """With a certificate, a source of events beside AWS, and joblib models allowed."""
    from pipeline.infrastructure.deployment import Deployment
    from pipeline.infrastructure.stack import make_app

    certificate = f"arn:aws:acm:{PREFIX}:certificate/1"
    folder = tmp_path_factory.mktemp("other")
    given = Deployment(ACCOUNT, REGION, ZONES, certificate_arn=certificate, event_sources=("test",))
    make_app(replace(given, contract="handbook", allow_joblib=True), folder).synth()
    document: Template = json.loads((folder / "Fraudline.template.json").read_text())
    return document


def of_type(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    """The properties of the resources of a type, by logical id."""
    return {name: found["Properties"] for name, found in template["Resources"].items() if found["Type"] == kind}


def the(template: Template, kind: str, starts: str = "") -> dict[str, Any]:
    [found] = [properties for name, properties in of_type(template, kind).items() if name.startswith(starts)]
    return found


def rule(template: Template, name: str) -> dict[str, Any]:
    return the(template, "AWS::Events::Rule", f"Triggers{name}")


def words(value: Any) -> str:
    """A value of the template as text: references as <Id> and <Id.Attribute>."""
    if isinstance(value, dict) and len(value) == 1:
        [(function, given)] = value.items()
        if function == "Ref":
            return f"<{given}>"
        if function == "Fn::GetAtt":
            return f"<{'.'.join(given)}>"
        if function == "Fn::Join":
            return str(given[0]).join(words(part) for part in given[1])
    return value if isinstance(value, str) else json.dumps(value).replace('"', "'")


def statements(template: Template, role: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each statement of the roles' policies, with its policy's name."""
    for name, policy in of_type(template, "AWS::IAM::Policy").items():
        if role is None or any(words(one).startswith(f"<{role}") for one in policy["Roles"]):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def permissions(template: Template, role: str, effect: str = "Allow") -> set[tuple[str, str]]:
    """What a role may do, as pairs of action and resource; the data bucket's ARN is written `data`."""
    return {
        (action, re.sub(r"<DataBucket\w+\.Arn>", "data", words(resource)))
        for _, statement in statements(template, role)
        if statement["Effect"] == effect
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


# Data


def test_the_data_bucket_is_closed_encrypted_versioned_and_logged(template: Template) -> None:
    bucket = the(template, "AWS::S3::Bucket", "DataBucket")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    [encryption] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert encryption["BucketKeyEnabled"] is True
    assert words(bucket["LoggingConfiguration"]["DestinationBucketName"]).startswith("<DataLogs")
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    by_id = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert by_id["old-versions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 90}
    assert set(by_id) == {"old-versions", "archive", "runs"}
    assert the(template, "AWS::KMS::Key")["EnableKeyRotation"] is True


def test_buckets_queues_and_topic_refuse_what_does_not_come_over_tls(template: Template) -> None:
    policies = [
        *of_type(template, "AWS::S3::BucketPolicy").values(),
        *of_type(template, "AWS::SQS::QueuePolicy").values(),
        *of_type(template, "AWS::SNS::TopicPolicy").values(),
    ]
    assert len(policies) == 2 + 10 + 1
    for policy in policies:
        denied = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
        assert any(one["Condition"] == {"Bool": {"aws:SecureTransport": "false"}} for one in denied)


def test_what_holds_data_outlives_the_stack(template: Template) -> None:
    policies = {name: found.get("DeletionPolicy") for name, found in template["Resources"].items()}
    kept = {name for name, policy in policies.items() if policy == "RetainExceptOnCreate"}
    starts = ("DataBucket", "DataKey", "DataLogs", "FeaturesDatabase", "FeaturesLanding", "OnlineTable")
    assert {name for name in kept if not name.startswith(starts)} == set()
    assert len([name for name in kept if "Policy" not in name]) == 6
    assert "Retain" not in policies.values()  # which a first deployment that is rolled back would leave behind


def test_every_access_to_an_object_is_recorded(template: Template) -> None:
    trail = the(template, "AWS::CloudTrail::Trail")
    [selector] = trail["EventSelectors"]
    [objects] = selector["DataResources"]
    assert objects["Type"] == "AWS::S3::Object"
    assert re.fullmatch(r"<DataBucket\w+\.Arn>/", words(objects["Values"][0]))
    assert trail["IsLogging"] is True
    assert trail["EnableLogFileValidation"] is True


def test_the_feature_job(template: Template, synthesized: Path) -> None:
    from pipeline.infrastructure.names import DATABASES

    job = the(template, "AWS::Glue::Job")
    arguments = job["DefaultArguments"]
    assert (job["GlueVersion"], job["WorkerType"], job["MaxRetries"]) == ("5.1", "G.1X", 0)
    assert (job["Command"]["Name"], job["Command"]["PythonVersion"]) == ("glueetl", "3")
    assert job["ExecutionProperty"] == {"MaxConcurrentRuns": 1}
    for name in ("--enable-auto-scaling", "--enable-metrics", "--enable-continuous-cloudwatch-log"):
        assert arguments[name] == "true"
    assert "spark.sql.session.timeZone=UTC" in arguments["--conf"]
    modules = dict(one.split("==") for one in arguments["--additional-python-modules"].split(","))
    assert {"pyiceberg", "pyarrow", "numpy"} <= set(modules)
    assert "pyspark" not in modules
    pinned = Path("requirements.txt").read_text()
    assert all(f"\n{name}=={version}" in f"\n{pinned}" for name, version in modules.items())
    databases = {one["DatabaseInput"]["Name"] for one in of_type(template, "AWS::Glue::Database").values()}
    assert databases == set(DATABASES)
    digest = arguments["--extra-py-files"].rsplit("/", 1)[1].removesuffix(".zip")
    package = synthesized / f"asset.{digest}" / "processing"
    assert (package / "job" / "job.py").exists()
    assert (package / "contracts" / "transactions.toml").exists()
    assert not (package / "job" / "glue_script.py").exists()


def test_what_the_glue_script_fails_of_is_the_message_of_the_job_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from processing.job import glue_script

    class Session:
        builder = type("Builder", (), {"getOrCreate": staticmethod(lambda: None)})

    monkeypatch.setattr(glue_script, "SparkSession", Session)
    monkeypatch.setenv("FRAUDLINE_ONLINE_TABLE", "")
    with pytest.raises(RuntimeError, match="there is nothing to take in"):
        glue_script.main(["--home", str(tmp_path), "--run", "r1", "--online-table", "online", "--JOB_NAME", "x"])
    assert os.environ["FRAUDLINE_ONLINE_TABLE"] == "online"


def test_the_package_works_out_of_the_zip_file_that_glue_hands_over(synthesized: Path, tmp_path: Path) -> None:
    [folder] = [path.parent for path in synthesized.glob("asset.*/processing") if (path / "job" / "job.py").exists()]
    archive = shutil.make_archive(str(tmp_path / "package"), "zip", folder)
    script = tmp_path / "glue_script.py"
    shutil.copyfile("processing/job/glue_script.py", script)
    program = f"""
import sys
sys.path[:0] = [{archive!r}, {str(tmp_path)!r}]
import glue_script
glue_script.unpack()
from processing.contracts.reader import shipped
assert "transactions" in shipped()
assert "fraudline-package-" in sys.modules["processing"].__file__
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def test_the_online_table(template: Template) -> None:
    table = the(template, "AWS::DynamoDB::Table")
    assert [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]] == [("pk", "HASH"), ("sk", "RANGE")]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    [index] = table["GlobalSecondaryIndexes"]
    assert (index["IndexName"], [key["AttributeName"] for key in index["KeySchema"]]) == (
        "latest",
        ["feed", "recorded"],
    )


def test_flow_logs_may_be_delivered_to_the_bucket_of_logs(template: Template) -> None:
    [policy] = [
        one["PolicyDocument"]["Statement"]
        for one in of_type(template, "AWS::S3::BucketPolicy").values()
        if words(one["Bucket"]).startswith("<DataLogs")
    ]
    delivered = [one for one in policy if one["Principal"] == {"Service": "delivery.logs.amazonaws.com"}]
    assert {action for one in delivered for action in listed(one["Action"])} >= {"s3:PutObject", "s3:GetBucketAcl"}


# Training


def test_the_pipeline_is_the_definition_with_this_deployments_addresses(template: Template) -> None:
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
        assert one["selection"]["tagStatus"] == "untagged"  # a tagged one may be in use, however old it is


def test_jobs_are_told_their_region_and_may_encrypt_what_they_deliver(template: Template) -> None:
    body = json.loads(words(the(template, "AWS::SageMaker::Pipeline")["PipelineDefinition"]["PipelineDefinitionBody"]))
    steps = {step["Name"]: step["Arguments"] for step in body["Steps"]}
    for name in ("Train", "Evaluate"):
        assert steps[name]["Environment"]["AWS_DEFAULT_REGION"] == REGION
    for role in ("TrainingJobRole", "TrainingEvaluationRole"):
        assert "kms:Encrypt" in {action for action, resource in permissions(template, role) if "DataKey" in resource}


# Serving


def test_two_tasks_in_two_zones_with_a_deployment_that_rolls_back(template: Template) -> None:
    service = the(template, "AWS::ECS::Service")
    assert template["Parameters"]["ServingTasks"]["Default"] == 2
    asked = {"Fn::If": ["HasImage", {"Ref": "StartTasks"}, 0]}
    assert service["DesiredCount"] == {"Fn::If": ["LeaveTasks", {"Ref": "AWS::NoValue"}, asked]}
    assert template["Parameters"]["StartTasks"]["Default"] == 0
    assert service["LaunchType"] == "FARGATE"
    assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    network = service["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "DISABLED"
    zones = {one["AvailabilityZone"] for one in of_type(template, "AWS::EC2::Subnet").values()}
    assert zones == set(ZONES)
    assert len(network["Subnets"]) == 2


def test_the_container_is_read_only_not_root_and_logged(template: Template) -> None:
    [container] = the(template, "AWS::ECS::TaskDefinition", "Api")["ContainerDefinitions"]
    assert container["ReadonlyRootFilesystem"] is True
    assert container["User"] == "10001"
    assert container["LogConfiguration"]["LogDriver"] == "awslogs"
    assert [secret["Name"] for secret in container["Secrets"]] == ["FRAUDLINE_API_KEYS"]
    names = {variable["Name"] for variable in container["Environment"]}
    assert names == {
        "AWS_DEFAULT_REGION",
        "FRAUDLINE_EMBEDDED_METRICS_SECONDS",
        "FRAUDLINE_HOME",
        "FRAUDLINE_HOST",
        "FRAUDLINE_MODELS",
        "FRAUDLINE_ONLINE_TABLE",
        "FRAUDLINE_PORT",
    }


def test_the_server_keeps_connections_longer_than_the_load_balancer(template: Template) -> None:
    from serving.settings import Settings

    balancer = the(template, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    told = {one["Key"]: one["Value"] for one in balancer["LoadBalancerAttributes"]}
    [container] = the(template, "AWS::ECS::TaskDefinition", "Api")["ContainerDefinitions"]
    assert "FRAUDLINE_IDLE_SECONDS" not in {variable["Name"] for variable in container["Environment"]}
    # The balancer would otherwise send a request into a connection that is just being closed: a 502.
    assert Settings.model_fields["idle_seconds"].default > float(told["idle_timeout.timeout_seconds"])


def test_tasks_are_added_for_cpu_and_for_requests(template: Template) -> None:
    target = the(template, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target["MinCapacity"], target["MaxCapacity"]) == ({"Fn::If": ["HasImage", {"Ref": "ServingTasks"}, 0]}, 10)
    metrics = {
        policy["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]["PredefinedMetricType"]
        for policy in of_type(template, "AWS::ApplicationAutoScaling::ScalingPolicy").values()
    }
    assert metrics == {"ECSServiceAverageCPUUtilization", "ALBRequestCountPerTarget"}


def test_the_load_balancer_is_internal_and_speaks_tls_when_given_a_certificate(
    template: Template, emulated: Template
) -> None:
    for one in (template, emulated):
        assert the(one, "AWS::ElasticLoadBalancingV2::LoadBalancer")["Scheme"] == "internal"
        assert the(one, "AWS::ElasticLoadBalancingV2::TargetGroup")["HealthCheckPath"] == "/health/ready"
    plain, secure = (the(one, "AWS::ElasticLoadBalancingV2::Listener") for one in (template, emulated))
    assert (plain["Port"], plain["Protocol"]) == (80, "HTTP")
    assert (secure["Port"], secure["Protocol"]) == (443, "HTTPS")
    assert secure["Certificates"] == [{"CertificateArn": f"arn:aws:acm:{PREFIX}:certificate/1"}]
    assert "TLS13" in secure["SslPolicy"]


def test_there_is_no_way_out_of_the_network(template: Template) -> None:
    kinds = {found["Type"] for found in template["Resources"].values()}
    assert not kinds & {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route", "AWS::EC2::EIP"}
    endpoints = {words(one["ServiceName"]) for one in of_type(template, "AWS::EC2::VPCEndpoint").values()}
    services = {re.sub(r"com\.amazonaws\.(eu-west-1|<AWS::Region>)\.", "", name) for name in endpoints}
    assert services == {"s3", "dynamodb", "ecr.api", "ecr.dkr", "logs", "secretsmanager"}
    for group in of_type(template, "AWS::EC2::SecurityGroup").values():
        assert all(one["CidrIp"] != "0.0.0.0/0" for one in group.get("SecurityGroupIngress", []))
    assert of_type(template, "AWS::EC2::FlowLog")


# Triggers


def test_the_rules_watch_exactly_what_may_start_or_answer_a_run(template: Template) -> None:
    patterns = {}
    for name, found in of_type(template, "AWS::Events::Rule").items():
        if name.startswith("DriftDaily"):  # starts a task, no run
            assert found["State"] == {"Fn::If": ["HasImage", "ENABLED", "DISABLED"]}
            continue
        [target] = found["Targets"]
        queue = re.sub(r"<Triggers(\w+)Queue\w+\.Arn>", r"\1", words(target["Arn"]))
        group = target.get("SqsParameters", {}).get("MessageGroupId")
        patterns[re.sub(r"Triggers(\w+)\w{8}", r"\1", name)] = (
            found.get("EventPattern", found.get("ScheduleExpression")),
            queue,
            group,
        )
    bucket = next(name for name in of_type(template, "AWS::S3::Bucket") if name.startswith("DataBucket"))
    assert patterns == {
        "FileArrived": (
            {
                "source": ["aws.s3"],
                "detail-type": ["Object Created"],
                "detail": {"bucket": {"name": [{"Ref": bucket}]}, "object": {"key": [{"prefix": "incoming/"}]}},
            },
            "StartRun",
            "runs",
        ),
        "TableLoaded": (
            {
                "source": ["aws.glue"],
                "detail-type": [
                    "Glue Data Catalog Database State Change",
                    "Glue Data Catalog Table State Change",
                ],
                "detail": {"databaseName": ["fraudline_landing"]},
            },
            "StartRun",
            "runs",
        ),
        "RunEnded": (
            {
                "source": ["aws.sagemaker"],
                "detail-type": ["SageMaker Model Building Pipeline Execution Status Change"],
                "detail": {
                    "pipelineArn": [f"arn:aws:sagemaker:{PREFIX}:pipeline/fraudline"],
                    "currentPipelineExecutionStatus": ["Succeeded", "Failed", "Stopped"],
                },
            },
            "StartRun",
            "runs",
        ),
        "FeaturesEnded": (
            {
                "source": ["aws.glue"],
                "detail-type": ["Glue Job State Change"],
                "detail": {
                    "jobName": ["fraudline-features"],
                    "state": ["SUCCEEDED", "FAILED", "TIMEOUT", "STOPPED", "ERROR", "EXPIRED"],
                },
            },
            "FinishFeatures",
            None,
        ),
        "ModelApproved": (
            {
                "source": ["aws.sagemaker"],
                "detail-type": ["SageMaker Model Package State Change"],
                "detail": {"ModelPackageGroupName": ["fraudline"], "ModelApprovalStatus": ["Approved"]},
            },
            "Approve",
            None,
        ),
        "Monthly": ("cron(0 3 1 * ? *)", "StartRun", "runs"),
        "Daily": ("cron(0 6 * * ? *)", "ModelAge", None),
    }


def test_our_own_tables_are_never_watched(template: Template) -> None:
    from pipeline.infrastructure.names import DATABASE

    for found in of_type(template, "AWS::Events::Rule").values():
        watched = found.get("EventPattern", {}).get("detail", {}).get("databaseName", [])
        assert DATABASE not in watched
        if any("Data Catalog" in kind for kind in found.get("EventPattern", {}).get("detail-type", [])):
            assert watched


def test_events_of_other_sources_count_only_where_the_deployment_says_so(
    template: Template, emulated: Template
) -> None:
    assert rule(template, "FeaturesEnded")["EventPattern"]["source"] == ["aws.glue"]
    assert rule(emulated, "FeaturesEnded")["EventPattern"]["source"] == ["aws.glue", "test"]


def test_every_queue_that_feeds_a_function_has_a_dead_letter_queue_with_an_alarm(template: Template) -> None:
    queues = of_type(template, "AWS::SQS::Queue")
    fed = {words(one["EventSourceArn"])[1:-5] for one in of_type(template, "AWS::Lambda::EventSourceMapping").values()}
    assert len(fed) == 5
    dead = {words(queues[name]["RedrivePolicy"]["deadLetterTargetArn"])[1:-5] for name in fed}
    assert all(queues[name]["RedrivePolicy"]["maxReceiveCount"] == 4 for name in fed)
    assert fed | dead == set(queues)
    alarmed = set()
    for alarm in of_type(template, "AWS::CloudWatch::Alarm").values():
        for dimension in alarm.get("Dimensions", []):
            if dimension["Name"] == "QueueName":
                alarmed.add(words(dimension["Value"])[1:].split(".")[0])
                assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (0, "GreaterThanThreshold")
    assert alarmed == dead


def test_runs_are_asked_for_one_after_the_other(template: Template) -> None:
    queue = the(template, "AWS::SQS::Queue", "TriggersStartRunQueue")
    assert queue["FifoQueue"] is True
    assert queue["ContentBasedDeduplication"] is True
    assert queue["DelaySeconds"] == 60
    function = the(template, "AWS::Lambda::Function", "TriggersStartRun")
    assert queue["VisibilityTimeout"] == 6 * function["Timeout"]


def test_the_alarms_all_reach_the_topic(template: Template) -> None:
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    metrics = {alarm["MetricName"] for alarm in alarms.values()}
    assert metrics == {
        "ApproximateNumberOfMessagesVisible",
        "ExecutionFailed",
        "Errors",
        "HTTPCode_ELB_5XX_Count",
        "HTTPCode_Target_5XX_Count",
        "TargetResponseTime",
        "ModelAgeDays",
        "ModelRefused",
        "StoreFailures",
        "StoreRefusals",
        "StoreLost",
        "RefreshUnfinished",
        "HorizonOld",
        "LabelsOld",
        "FeatureDrift",
        "ScoreDrift",
    }
    for alarm in alarms.values():
        [action] = alarm["AlarmActions"]
        assert words(action).startswith("<AlarmsTopic")
    [latency] = [alarm for alarm in alarms.values() if alarm["MetricName"] == "TargetResponseTime"]
    assert latency["ExtendedStatistic"] == "p99"
    assert the(template, "AWS::SNS::Subscription")["Endpoint"] == "team@example.com"
    assert len(of_type(template, "AWS::CloudWatch::Dashboard")) == 1


def test_every_alarm_is_explained(template: Template) -> None:
    page = (ROOT / "triggers" / "README.md").read_text()
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    names = {re.sub(r"^Alarms(\w+)[0-9A-F]{8}$", r"\1", logical_id) for logical_id in alarms}
    table = page.partition("## The alarms")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == names
    thresholds = {f"{alarm['Threshold']:g}" for alarm in alarms.values()} - {"0"}
    assert thresholds <= set(re.findall(r"[\d.]*\d", table))


def test_each_function_is_told_what_its_settings_ask_for(template: Template) -> None:
    from dataclasses import fields
    from importlib import import_module

    for found in of_type(template, "AWS::Lambda::Function").values():
        module = import_module(found["Handler"].removesuffix(".handler"))
        settings = [value for name, value in vars(module).items() if name.endswith("Settings")]
        wanted = {f"FRAUDLINE_{field.name.upper()}" for kind in settings for field in fields(kind)}
        wanted |= {"FRAUDLINE_MODELS"} if hasattr(module, "packed_only") else set()
        assert set(found.get("Environment", {}).get("Variables", {})) == wanted
        assert callable(module.handler)


# Permissions

NO_RESOURCE = {  # actions for which the service knows no resources, and what narrows them
    "cloudwatch:PutMetricData": "namespace",
    "ecr:GetAuthorizationToken": "",
    "ec2:DescribeNetworkInterfaces": "",
    "ec2:DescribeVpcs": "",
    "ec2:DescribeDhcpOptions": "",
    "ec2:DescribeSubnets": "",
    "ec2:DescribeSecurityGroups": "",
}


def test_no_role_may_do_any_action_or_use_any_resource_unless_the_service_knows_none(template: Template) -> None:
    for name, statement in statements(template):
        for action in listed(statement["Action"]):
            assert "*" not in action, (name, action)
        if "*" in [words(resource) for resource in listed(statement["Resource"])]:
            for action in listed(statement["Action"]):
                assert action in NO_RESOURCE, (name, action)
                assert NO_RESOURCE[action] in json.dumps(statement.get("Condition", "")), (name, action)


def test_there_are_no_managed_policies_and_each_role_is_one_parts_own(template: Template) -> None:
    from pipeline.infrastructure.permissions import PASSES_ACCOUNT

    roles = of_type(template, "AWS::IAM::Role")
    for role in roles.values():
        assert "ManagedPolicyArns" not in role
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        service = statement["Principal"]["Service"]
        # Only where AWS shows that the service says so: a role that asks in vain cannot be assumed.
        assert service in (*PASSES_ACCOUNT, "glue.amazonaws.com")
        asked = {"StringEquals": {"aws:SourceAccount": ACCOUNT}} if service in PASSES_ACCOUNT else None
        assert statement.get("Condition") == asked, service
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
def test_promotion_knows_what_the_api_loads_and_reads_the_homes_contract(template: Template, name: str) -> None:
    assert "contract.toml" in of_objects(permissions(template, f"Triggers{name}Role"), "s3:GetObject")
    functions = of_type(template, "AWS::Lambda::Function").items()
    [function] = [one for key, one in functions if re.fullmatch(rf"Triggers{name}\w{{8}}", key)]
    assert function["Environment"]["Variables"]["FRAUDLINE_MODELS"] == "packed"


def of_objects(allowed: set[tuple[str, str]], *actions: str) -> set[str]:
    return {resource.removeprefix("data/") for action, resource in allowed if action in actions}


def test_the_api_reads_models_and_no_data(template: Template) -> None:
    allowed = permissions(template, "ApiTaskRole")
    assert of_objects(allowed, "s3:GetObject") == {"models/*", "contract.toml"}
    assert {action for action, _ in allowed if action.startswith("s3:")} == {"s3:GetObject", "s3:ListBucket"}
    assert all("<OnlineTable" in resource for action, resource in allowed if action.startswith("dynamodb:"))


def test_the_feature_job_may_look_for_uploads_that_were_not_ended(template: Template) -> None:
    assert ("s3:ListBucketMultipartUploads", "data") in permissions(template, "FeaturesRole")


def test_the_feature_job_reads_manifests_and_cannot_touch_models_or_the_landing_database(template: Template) -> None:
    allowed = permissions(template, "FeaturesRole")
    of_models = {(action, resource.removeprefix("data/")) for action, resource in allowed if "models" in resource}
    assert of_models == {("s3:GetObject", "models/latest.json"), ("s3:GetObject", "models/*/manifest.json")}
    assert of_objects(allowed, "s3:GetObject") >= {"incoming/*", "warehouse/*", "runs/*", "contract.toml"}
    assert not any("landing" in resource for _, resource in allowed)
    assert not any(action.startswith(("sagemaker:", "iam:", "lambda:")) for action, _ in allowed)


def test_training_reads_what_it_trains_on_and_writes_what_it_delivers_only(template: Template) -> None:
    allowed = permissions(template, "TrainingJobRole")
    assert of_objects(allowed, "s3:GetObject") == {"runs/*/train/*", "runs/*/contract/*"}
    assert of_objects(allowed, "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion") == {"runs/*/train-output/*"}
    assert not any("models/" in resource for _, resource in allowed)


def test_evaluation_publishes_versions_and_changes_nothing_else(template: Template) -> None:
    allowed = permissions(template, "TrainingEvaluationRole")
    assert of_objects(allowed, "s3:GetObject") == {"runs/*", "models/*"}
    assert of_objects(allowed, "s3:PutObject") == {"runs/*/evaluation/*", "models/*"}
    assert of_objects(allowed, "s3:DeleteObject", "s3:DeleteObjectVersion") == set()
    denied = permissions(template, "TrainingEvaluationRole", "Deny")
    for action in ("s3:PutObject", "s3:DeleteObject"):
        assert {(action, "data/models/latest.json"), (action, "data/models/history/*")} <= denied


def writers_over(template: Template, key: str) -> set[str]:
    """The roles that may put an object under a key, even where there is one."""
    found = set()
    for name in of_type(template, "AWS::IAM::Role"):
        allowed, denied = False, False
        for _, one in statements(template, name):
            resources = [re.sub(r"<DataBucket\w+\.Arn>/?", "", words(resource)) for resource in listed(one["Resource"])]
            fits = any(re.fullmatch(re.escape(resource).replace(r"\*", ".*"), key) for resource in resources)
            if fits and "s3:PutObject" in listed(one["Action"]):
                # What is denied to requests without `If-None-Match` is denied to all that would write over another.
                allowed |= one["Effect"] == "Allow"
                denied |= one["Effect"] == "Deny" and one.get("Condition") in (
                    None,
                    {"Null": {"s3:if-none-match": "true"}},
                )
        if allowed and not denied:
            found.add(name)
    return found


@pytest.mark.parametrize(
    "key",
    [
        "models/20261122T103000Z-baf3f/model.joblib",
        "models/20261122T103000Z-baf3f/manifest.json",
        "models/history/1.json",
    ],
)
def test_nobody_may_write_over_a_published_file_or_a_record(template: Template, key: str) -> None:
    assert writers_over(template, key) == set()
    assert len(writers_over(template, "models/latest.json")) == 2
    assert (
        len(writers_over(template, "runs/r/evaluation/evaluation.json")) == 2
    )  # the feature job clears a run's folder


def test_joblib_models_are_loaded_only_where_they_were_asked_for(template: Template, emulated: Template) -> None:
    """In the API, and in evaluation."""
    for one, models in ((template, "packed"), (emulated, "any")):
        [container] = the(one, "AWS::ECS::TaskDefinition", "Api")["ContainerDefinitions"]
        assert {"Name": "FRAUDLINE_MODELS", "Value": models} in container["Environment"]
        body = json.loads(words(the(one, "AWS::SageMaker::Pipeline")["PipelineDefinition"]["PipelineDefinitionBody"]))
        [evaluate] = [step["Arguments"] for step in body["Steps"] if step["Name"] == "Evaluate"]
        assert (evaluate["Environment"].get("FRAUDLINE_MODELS") == "packed") == (models == "packed")


def test_the_pipeline_may_pass_its_jobs_role_and_no_other(template: Template) -> None:
    passes = [(who, one) for who, one in statements(template) if "iam:PassRole" in listed(one["Action"])]
    for who, one in passes:  # whoever starts a task hands it its roles; nobody else passes any on
        if who.startswith("DriftStarterRole"):
            roles = [words(resource) for resource in listed(one["Resource"])]
            assert all(role.startswith(("<ApiExecutionRole", "<DriftRole")) for role in roles)
    [statement] = [one for who, one in passes if not who.startswith("DriftStarterRole")]
    passed = sorted(re.sub(r"\w{8}\.Arn>", "", words(resource)) for resource in listed(statement["Resource"]))
    assert passed == ["<TrainingEvaluationRole", "<TrainingJobRole"]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


# The whole


def test_cfn_lint_finds_no_errors(synthesized: Path) -> None:
    lint = Path(sys.executable).parent / "cfn-lint"
    found = subprocess.run(
        [str(lint), "--regions", REGION, "--ignore-checks", "W", "--", str(synthesized / "Fraudline.template.json")],
        capture_output=True,
        text=True,
    )
    assert found.stdout == ""
    assert found.returncode == 0


def test_cdk_nag_would_tell(synthesized: Path, tmp_path: Path) -> None:
    from aws_cdk import aws_iam as iam

    from pipeline.infrastructure.deployment import Deployment
    from pipeline.infrastructure.stack import make_app

    app = make_app(Deployment(ACCOUNT, REGION, ZONES), tmp_path)
    stack = app.node.find_child("Fraudline")
    role = iam.Role(stack, "Loose", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    role.add_to_policy(iam.PolicyStatement(actions=["s3:*"], resources=["*"]))
    with pytest.raises(Exception, match=r"AwsSolutions-IAM5\[Action::s3:\*\]"):
        app.synth()


def test_each_acknowledgement_is_for_one_resource_and_has_a_reason(synthesized: Path) -> None:
    metadata = json.loads((synthesized / "Fraudline.metadata.json").read_text())
    acknowledged = [
        (path, rule, reason)
        for path, entries in metadata.items()
        for entry in entries
        if entry["type"] == "aws:cdk:acknowledged-rules" and path != "/Fraudline"
        for rule, reason in entry["data"].items()
        if "AwsSolutions" in rule
    ]
    rules = {re.sub(r".*AwsSolutions-(\w+).*", r"\1", rule) for _, rule, _ in acknowledged}
    assert rules == {"ECS2", "IAM5", "S1", "SMG4"}
    for path, rule, reason in acknowledged:
        assert path.count("/") >= 3, path  # a resource's construct, not the stack or a part of it
        assert "IAM5" not in rule or "[Resource::" in rule, rule
        assert len(reason) > 25, (path, rule, reason)


def test_the_size_of_the_stack_and_its_outputs(template: Template) -> None:
    assert len(template["Resources"]) == 145
    custom = [found["Type"] for found in template["Resources"].values() if "Custom" in found["Type"]]
    assert custom == []
    names = {"HomeUrl", "PipelineName", "ApiUrl", "OnlineTable", "GlueJobName", "StartRunQueueUrl", "StartRunDeadUrl"}
    assert names <= set(template["Outputs"])
    kept = json.loads(template["Outputs"]["Settings"]["Value"])
    assert kept == {"FRAUDLINE_ALARM_EMAIL": "team@example.com", "FRAUDLINE_ZONES": ",".join(ZONES)}
    assert {"FeatureJobRole", "TrainingRole", "EvaluationRole", "PipelineRole", "ApproveRole"} <= set(
        template["Outputs"]
    )


# What it costs


def test_the_bill_is_computed_for_what_the_stack_deploys(template: Template) -> None:
    """stack_sizes.json is what `make rationale` writes now."""
    assert the(template, "AWS::Glue::Job")["WorkerType"] == "G.1X"  # one DPU each
    assert of_type(template, "AWS::EC2::NatGateway") == {}
    assert read_sizes() == sizes_of(template)


def parts(document: bytes) -> dict[str, bytes]:
    """The parts of a .docx file by name."""
    with zipfile.ZipFile(io.BytesIO(document)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_rationale_says_what_is_deployed_and_what_it_costs(template: Template) -> None:
    """service_rationale.docx is what `make rationale` writes now."""
    from matplotlib.image import imread

    from pipeline.infrastructure.rationale.__main__ import FILE, rationale

    written, now = parts(FILE.read_bytes()), parts(rationale(template))
    assert set(written) == set(now)
    for name, content in now.items():
        if name.endswith(".png"):  # compressed otherwise elsewhere
            assert np.array_equal(imread(io.BytesIO(written[name])), imread(io.BytesIO(content)))
        else:
            assert written[name] == content, f"{name} has changed: run `make rationale`"


# Deploying


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ExpiredToken: The security token included in the request is expired", "have expired"),
        ("Unable to resolve AWS account to use.", "credentials are missing"),
        ("SSM parameter /cdk-bootstrap/hnb659fds/version not found.", "deploy --bootstrap"),
        ("Fraudline: The maximum number of VPCs has been reached. (VpcLimitExceeded)", "Service Quotas"),
        ("User: arn:aws:iam::1:user/x is not authorized to perform: cloudformation:X", "lack a permission"),
        ("npm error code ENOTFOUND", "network"),
        ("\x1b[31mwhat nobody knew\x1b[0m", "failed.\nwhat nobody knew"),
    ],
)
def test_a_failed_deployment_says_what_is_missing(said: str, told: str) -> None:
    assert told in aws_errors.explain(said, "it failed")


def test_without_a_region_or_credentials_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(FraudlineError, match="no AWS region is set"):
        target.find_target()
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with pytest.raises(FraudlineError, match="credentials are missing"):
        target.find_target()


def test_the_app_wants_an_account_and_a_region() -> None:
    environment: Mapping[str, str] = {"PATH": os.environ["PATH"], **cdk.node_environment()}
    app = subprocess.run(
        [sys.executable, "-m", "pipeline.infrastructure.synthesize"], env=environment, capture_output=True, text=True
    )
    assert app.returncode == 2
    assert "no AWS account and region" in app.stderr
