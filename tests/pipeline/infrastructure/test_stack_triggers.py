"""The stack's template: rules, queues, functions, alarms."""

import re

import pytest
from places import ROOT
from stack_template import (
    PREFIX,
    Template,
    of_type,
    the,
    trigger_rule,
    words,
)

pytestmark = pytest.mark.cloud


def test_the_rules_match_exactly_the_events_that_concern_a_run(template: Template) -> None:
    patterns = {}
    for name, rule in of_type(template, "AWS::Events::Rule").items():
        if name.startswith("DriftDaily"):  # starts a task, not a run
            assert rule["State"] == {"Fn::If": ["HasImage", "ENABLED", "DISABLED"]}
            continue
        [target] = rule["Targets"]
        queue = re.sub(r"<Triggers(\w+)Queue\w+\.Arn>", r"\1", words(target["Arn"]))
        group = target.get("SqsParameters", {}).get("MessageGroupId")
        patterns[re.sub(r"Triggers(\w+)\w{8}", r"\1", name)] = (
            rule.get("EventPattern", rule.get("ScheduleExpression")),
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

    for rule in of_type(template, "AWS::Events::Rule").values():
        databases = rule.get("EventPattern", {}).get("detail", {}).get("databaseName", [])
        assert DATABASE not in databases
        if any("Data Catalog" in kind for kind in rule.get("EventPattern", {}).get("detail-type", [])):
            assert databases


def test_events_of_other_sources_count_only_if_the_deployment_allows_them(
    template: Template, emulated: Template
) -> None:
    assert trigger_rule(template, "FeaturesEnded")["EventPattern"]["source"] == ["aws.glue"]
    assert trigger_rule(emulated, "FeaturesEnded")["EventPattern"]["source"] == ["aws.glue", "test"]


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


def test_events_that_start_runs_are_handled_one_by_one(template: Template) -> None:
    queue = the(template, "AWS::SQS::Queue", "TriggersStartRunQueue")
    assert queue["FifoQueue"] is True
    assert queue["ContentBasedDeduplication"] is True
    assert queue["DelaySeconds"] == 60
    function = the(template, "AWS::Lambda::Function", "TriggersStartRun")
    assert queue["VisibilityTimeout"] == 6 * function["Timeout"]


def test_every_alarm_notifies_the_topic(template: Template) -> None:
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


def test_the_documentation_explains_every_alarm(template: Template) -> None:
    page = (ROOT / "triggers" / "README.md").read_text()
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    names = {re.sub(r"^Alarms(\w+)[0-9A-F]{8}$", r"\1", logical_id) for logical_id in alarms}
    table = page.partition("## The alarms")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == names
    thresholds = {f"{alarm['Threshold']:g}" for alarm in alarms.values()} - {"0"}
    assert thresholds <= set(re.findall(r"[\d.]*\d", table))


def test_each_function_gets_exactly_the_variables_it_reads(template: Template) -> None:
    from dataclasses import fields
    from importlib import import_module

    for function in of_type(template, "AWS::Lambda::Function").values():
        module = import_module(function["Handler"].removesuffix(".handler"))
        settings = [value for name, value in vars(module).items() if name.endswith("Settings")]
        expected = {f"FRAUDLINE_{field.name.upper()}" for kind in settings for field in fields(kind)}
        expected |= {"FRAUDLINE_MODELS"} if hasattr(module, "packed_only") else set()
        assert set(function.get("Environment", {}).get("Variables", {})) == expected
        assert callable(module.handler)
