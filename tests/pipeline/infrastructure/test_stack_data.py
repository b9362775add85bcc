"""The stack's template: the home's bucket, the feature job, the online table."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stack_template import (
    Template,
    listed,
    of_type,
    the,
    words,
)

pytestmark = pytest.mark.cloud


def test_the_data_bucket_is_private_encrypted_versioned_and_logged(template: Template) -> None:
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


def test_buckets_queues_and_the_topic_refuse_requests_without_tls(template: Template) -> None:
    policies = [
        *of_type(template, "AWS::S3::BucketPolicy").values(),
        *of_type(template, "AWS::SQS::QueuePolicy").values(),
        *of_type(template, "AWS::SNS::TopicPolicy").values(),
    ]
    assert len(policies) == 2 + 10 + 1
    for policy in policies:
        denied = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
        assert any(one["Condition"] == {"Bool": {"aws:SecureTransport": "false"}} for one in denied)


def test_resources_that_hold_data_outlive_the_stack(template: Template) -> None:
    policies = {name: resource.get("DeletionPolicy") for name, resource in template["Resources"].items()}
    retained = {name for name, policy in policies.items() if policy == "RetainExceptOnCreate"}
    starts = ("DataBucket", "DataKey", "DataLogs", "FeaturesDatabase", "FeaturesLanding", "OnlineTable")
    assert {name for name in retained if not name.startswith(starts)} == set()
    assert len([name for name in retained if "Policy" not in name]) == 6
    assert "Retain" not in policies.values()  # a rolled-back first deployment would leave such resources behind


def test_every_object_access_is_recorded(template: Template) -> None:
    trail = the(template, "AWS::CloudTrail::Trail")
    [selector] = trail["EventSelectors"]
    [objects] = selector["DataResources"]
    assert objects["Type"] == "AWS::S3::Object"
    assert re.fullmatch(r"<DataBucket\w+\.Arn>/", words(objects["Values"][0]))
    assert trail["IsLogging"] is True
    assert trail["EnableLogFileValidation"] is True


def test_the_feature_job_has_pinned_modules_and_its_package(template: Template, synthesized: Path) -> None:
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
    assert {"pyiceberg", "pyarrow", "numpy", "python-dateutil"} <= set(modules)
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


def test_an_error_in_the_glue_script_becomes_the_message_of_the_job_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from processing.job import glue_script

    class Session:
        builder = type("Builder", (), {"getOrCreate": staticmethod(lambda: None)})

    monkeypatch.setattr(glue_script, "SparkSession", Session)
    monkeypatch.setenv("FRAUDLINE_ONLINE_TABLE", "")
    with pytest.raises(RuntimeError, match="there is nothing to read"):
        glue_script.main(["--home", str(tmp_path), "--run", "r1", "--online-table", "online", "--JOB_NAME", "x"])
    assert os.environ["FRAUDLINE_ONLINE_TABLE"] == "online"


def test_the_package_works_when_glue_ships_it_as_a_zip_file(synthesized: Path, tmp_path: Path) -> None:
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


def test_flow_logs_may_be_delivered_to_the_log_bucket(template: Template) -> None:
    [policy] = [
        one["PolicyDocument"]["Statement"]
        for one in of_type(template, "AWS::S3::BucketPolicy").values()
        if words(one["Bucket"]).startswith("<DataLogs")
    ]
    delivered = [one for one in policy if one["Principal"] == {"Service": "delivery.logs.amazonaws.com"}]
    assert {action for one in delivered for action in listed(one["Action"])} >= {"s3:PutObject", "s3:GetBucketAcl"}
