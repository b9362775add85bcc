"""The data's part of the stack: the bucket that is the home, its catalog, the Glue job, the record of who read what.

Also how every part of the stack states its permissions (`allow`) and why a check does not hold (`acknowledge`).
"""

import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aws_cdk import Acknowledgment, Duration, RemovalPolicy, Stack, Validations
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as assets
from constructs import Construct, IConstruct

from processing.tables.parquet import SPARK as CHECKSUMS

DATABASE = "fraudline"  # NAMESPACE of processing.tables.catalog
LANDING = "fraudline_landing"
LOG_PREFIX = "/fraudline/features"
ROOT = Path(__file__).parents[2]
SPARK_SETTINGS = {
    **CHECKSUMS,
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.maxConcurrentOutputFileWriters": "64",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "100000",
}
# Services that say for which account they assume a role, and where AWS shows a trust policy that asks for it. Of others
# that is not known (prowler-cloud/prowler#2810), Glue among them, and a role that asks in vain cannot be assumed.
TOOLKIT = "github.com/aws/agent-toolkit-for-aws/tree/main/skills/specialized-skills/serverless-skills"
GUIDE = "docs.aws.amazon.com"
SAYS_ACCOUNT = {
    "ecs-tasks.amazonaws.com": f"{TOOLKIT}/processing-s3-uploads-with-step-functions/scripts/ecs-trust-policy.json",
    "events.amazonaws.com": f"{GUIDE}/eventbridge/latest/userguide/cross-service-confused-deputy-prevention.html",
    "lambda.amazonaws.com": f"{TOOLKIT}/deploying-custom-domain-rest-api/scripts/lambda-trust-policy.json",
    "sagemaker.amazonaws.com": f"{GUIDE}/sagemaker/latest/dg/security-confused-deputy-prevention.html",
}
LATEST = "latest"  # the index of decisions by time
READS = ("GetItem", "BatchGetItem", "Query")
ITEM_ACTIONS = (*READS, "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "ConditionCheckItem")


def acknowledge(where: IConstruct, rule: str, reason: str) -> None:
    """State why a finding of cdk-nag is right as it is, for one resource."""
    Validations.of(where).acknowledge(Acknowledgment(id=f"AwsSolutions::AwsSolutions-{rule}", reason=reason))


def allow(
    role: iam.Role, actions: Sequence[str], *resources: str, why: str = "", only: Mapping[str, Any] | None = None
) -> None:
    """Let a role do these actions on these resources, `only` under a condition.

    `why` must say what a resource with a `*` in it is needed for.
    """
    role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=only))
    for resource in resources:
        written = _written(Stack.of(role).resolve(resource))
        if "*" in written:
            acknowledge(role, f"IAM5[Resource::{written}]", why)


def deny(
    role: iam.Role, actions: Sequence[str], data: "Data", *keys: str, only: Mapping[str, Any] | None = None
) -> None:
    """Keep a role from these actions on the objects of these keys, whatever else it is given."""
    resources = [data.bucket.arn_for_objects(key) for key in keys]
    role.add_to_policy(
        iam.PolicyStatement(effect=iam.Effect.DENY, actions=list(actions), resources=resources, conditions=only)
    )


def deny_overwriting(role: iam.Role, data: "Data", *keys: str) -> None:
    """Keep a role from writing an object that is there already: every write must ask S3 that there be none.

    What is written in parts asks that at its end alone, so it is refused from its beginning.
    """
    deny(role, ["s3:PutObject"], data, *keys, only={"Null": {"s3:if-none-match": "true"}})


def service_role(scope: Construct, name: str, service: str, description: str) -> iam.Role:
    """A role without permissions, which a service may assume: for this account only, where it says for which.

    Only principals of the account can pass a role to a service, whatever its trust policy says.
    """
    account = {"StringEquals": {"aws:SourceAccount": Stack.of(scope).account}} if service in SAYS_ACCOUNT else None
    return iam.Role(scope, name, assumed_by=iam.ServicePrincipal(service, conditions=account), description=description)


class Data(Construct):
    """The home in S3 and what guards it. `home_url` is its address."""

    def __init__(self, scope: Construct, name: str) -> None:
        super().__init__(scope, name)
        # What holds data stays when the stack goes, but not when its first deployment is rolled back: nothing is in it
        # then, and it would stand in the way of the next.
        self.key = kms.Key(
            self,
            "Key",
            enable_key_rotation=True,
            description="Fraudline's data at rest",
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        self.logs = s3.Bucket(
            self,
            "Logs",
            encryption=s3.BucketEncryption.S3_MANAGED,  # load balancers cannot write to KMS-encrypted buckets
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(400))],
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        acknowledge(self.logs, "S1", "It is where the access logs go; logging its own access would never end.")
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            versioned=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            server_access_logs_bucket=self.logs,
            server_access_logs_prefix="s3/",
            lifecycle_rules=_lifecycle(),
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        # The L2's own flag would add a Lambda function with rights on every bucket to do this.
        raw = self.bucket.node.default_child
        assert isinstance(raw, s3.CfnBucket)
        raw.add_property_override("NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True)
        self.home_url = f"s3://{self.bucket.bucket_name}"
        trail = cloudtrail.Trail(
            self,
            "Trail",
            bucket=self.logs,
            s3_key_prefix="cloudtrail",
            management_events=cloudtrail.ReadWriteType.NONE,
            is_multi_region_trail=False,
            include_global_service_events=False,
            enable_file_validation=True,
        )
        trail.add_s3_event_selector([cloudtrail.S3EventSelector(bucket=self.bucket)], include_management_events=False)

    def allow_objects(self, role: iam.Role, actions: Sequence[str], *keys: str, why: str = "") -> None:
        """Let a role do S3 actions on the objects of these keys, which may end in `*`, and use the bucket's key."""
        allow(role, actions, *(self.bucket.arn_for_objects(key) for key in keys), why=why)
        writes = any(action in ("s3:PutObject", "s3:AbortMultipartUpload") for action in actions)
        allow(role, ["kms:Decrypt", "kms:GenerateDataKey"] if writes else ["kms:Decrypt"], self.key.key_arn)

    def allow_list(self, role: iam.Role, *prefixes: str) -> None:
        """Let a role list what lies below these prefixes, and be told of an object that it is not there."""
        # S3 says 404 only to who may list, and that question has no prefix; without this it says 403.
        only = {"StringLikeIfExists": {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}}
        allow(role, ["s3:ListBucket"], self.bucket.bucket_arn, only=only)


def _lifecycle() -> list[s3.LifecycleRule]:
    infrequent = s3.Transition(storage_class=s3.StorageClass.INFREQUENT_ACCESS, transition_after=Duration.days(30))
    glacier = s3.Transition(storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL, transition_after=Duration.days(90))
    return [
        s3.LifecycleRule(
            id="old-versions",
            noncurrent_version_expiration=Duration.days(90),
            abort_incomplete_multipart_upload_after=Duration.days(7),
            expired_object_delete_marker=True,
        ),
        s3.LifecycleRule(id="archive", prefix="archive/", transitions=[infrequent, glacier]),
        s3.LifecycleRule(id="runs", prefix="runs/", transitions=[infrequent], expiration=Duration.days(400)),
    ]


class FeatureJob(Construct):
    """The Glue job that takes data in, with its databases: ours, and the one that other teams load into."""

    def __init__(
        self, scope: Construct, name: str, *, data: Data, online: dynamodb.ITable, contract: str, max_workers: int
    ) -> None:
        super().__init__(scope, name)
        stack = Stack.of(self)
        self.name = f"{stack.stack_name.lower()}-features"
        self.arn = stack.format_arn(service="glue", resource="job", resource_name=self.name)
        for database, folder in ((DATABASE, "warehouse"), (LANDING, "incoming")):
            resource = glue.CfnDatabase(
                self,
                "Database" if database == DATABASE else "Landing",
                catalog_id=stack.account,
                database_input=glue.CfnDatabase.DatabaseInputProperty(
                    name=database, location_uri=f"{data.home_url}/{folder}"
                ),
            )
            # Its tables would go with it: where the current state of each is, is written nowhere else.
            resource.apply_removal_policy(RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
        self.role = service_role(self, "Role", "glue.amazonaws.com", "The feature job")
        security = self._security(data.key)
        with tempfile.TemporaryDirectory() as folder:
            package = assets.Asset(self, "Package", path=_package(Path(folder)))
        script = assets.Asset(self, "Script", path=str(ROOT / "processing" / "job" / "glue_script.py"))
        self.job = glue.CfnJob(
            self,
            "Job",
            name=self.name,
            description="Takes in what waits in incoming/, updates the features, writes the run's sets",
            role=self.role.role_arn,
            glue_version="5.1",
            worker_type="G.1X",
            number_of_workers=max_workers,  # with auto-scaling: the most
            timeout=120,
            max_retries=0,  # the pipeline's step hears of the first failure
            execution_property=glue.CfnJob.ExecutionPropertyProperty(max_concurrent_runs=1),
            security_configuration=security.name,
            command=glue.CfnJob.JobCommandProperty(
                name="glueetl", python_version="3", script_location=script.s3_object_url
            ),
            default_arguments={
                "--additional-python-modules": ",".join(glue_modules()),
                "--conf": " --conf ".join(
                    f"{key}={value}"
                    for key, value in {**SPARK_SETTINGS, "spark.executorEnv.AWS_REGION": stack.region}.items()
                ),
                "--default-contract": contract,
                "--custom-logGroup-prefix": LOG_PREFIX,
                "--enable-auto-scaling": "true",
                "--enable-continuous-cloudwatch-log": "true",
                "--enable-metrics": "true",
                "--enable-observability-metrics": "true",
                "--extra-py-files": package.s3_object_url,
                "--home": data.home_url,
                "--home-region": stack.region,
                "--online-table": online.table_name,
            },
        )
        self.job.add_resource_dependency(security)
        for asset in (script, package):
            allow(self.role, ["s3:GetObject"], asset.bucket.arn_for_objects(asset.s3_object_key))
        self._permissions(data, online)

    def _security(self, key: kms.Key) -> glue.CfnSecurityConfiguration:
        configuration = glue.CfnSecurityConfiguration
        encryption = configuration.EncryptionConfigurationProperty(
            s3_encryptions=[configuration.S3EncryptionProperty(s3_encryption_mode="SSE-KMS", kms_key_arn=key.key_arn)],
            cloud_watch_encryption=configuration.CloudWatchEncryptionProperty(
                cloud_watch_encryption_mode="SSE-KMS", kms_key_arn=key.key_arn
            ),
            job_bookmarks_encryption=configuration.JobBookmarksEncryptionProperty(
                job_bookmarks_encryption_mode="CSE-KMS", kms_key_arn=key.key_arn
            ),
        )
        stack = Stack.of(self)
        groups = stack.format_arn(service="logs", resource="log-group:*")
        key.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"],
                principals=[iam.ServicePrincipal(f"logs.{stack.region}.amazonaws.com")],
                resources=["*"],  # in a key's policy: this key
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            )
        )
        return configuration(self, "Security", name=self.name, encryption_configuration=encryption)

    def _permissions(self, data: Data, online: dynamodb.ITable) -> None:
        role, stack = self.role, Stack.of(self)
        files = "Names of files and runs are known only as they come."
        data.allow_objects(role, ["s3:GetObject", "s3:DeleteObject"], "incoming/*", why=files)
        data.allow_objects(role, ["s3:PutObject", "s3:AbortMultipartUpload"], "archive/*", why=files)
        everything = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        data.allow_objects(role, everything, "warehouse/*", "runs/*", "claimed/*", why=files)
        data.allow_objects(role, ["s3:GetObject", "s3:PutObject"], "contract.toml")
        why = "Which model serves, and what it was trained under, so that the test rows get its features too."
        data.allow_objects(role, ["s3:GetObject"], "models/latest.json", "models/*/manifest.json", why=why)
        data.allow_list(role, "incoming/", "claimed/", "archive/", "warehouse/", "runs/", "contract.toml", "models/")
        # S3A, by which Spark writes in Glue 5.1, looks for uploads that were begun and not ended.
        allow(role, ["s3:ListBucketMultipartUploads"], data.bucket.bucket_arn)

        def catalog(kind: str, what: str | None = None) -> str:
            return stack.format_arn(service="glue", resource=kind, resource_name=what)

        tables = ("GetTable", "GetTables", "CreateTable", "UpdateTable", "DeleteTable")
        allow(
            role,
            ["glue:GetDatabase", *(f"glue:{action}" for action in tables)],
            catalog("catalog"),
            catalog("database", DATABASE),
            catalog("table", f"{DATABASE}/*"),
            why="The job makes its tables, and sets those of an older definition aside under a dated name.",
        )
        allow(role, [f"dynamodb:{action}" for action in (*ITEM_ACTIONS, "DescribeTable")], online.table_arn)
        allow(role, ["dynamodb:Query"], f"{online.table_arn}/index/{LATEST}")  # what was decided since the last run
        allow(
            role,
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:AssociateKmsKey"],
            stack.format_arn(service="logs", resource=f"log-group:{LOG_PREFIX}*"),
            why="Glue makes its log groups under this prefix, and names their streams by job run.",
        )
        allow(
            role,
            ["cloudwatch:PutMetricData"],
            "*",
            why="PutMetricData knows no resources; the condition leaves it Glue's own namespace.",
            only={"StringEquals": {"cloudwatch:namespace": "Glue"}},
        )


def glue_modules() -> list[str]:
    """What Glue must install for the job: its dependency group, pinned as everything is, without what Glue brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    names = {re.split(r"[\[<>=]", wanted)[0] for wanted in project["optional-dependencies"]["processing"]}
    return [f"{name}=={pins[name]}" for name in sorted(names - {"pyspark", "boto3"})]


def _package(folder: Path) -> str:
    """The package as the job ships it: a folder that holds it, without what deploys it."""
    ignored = shutil.ignore_patterns("__pycache__", "glue_script.py")
    shutil.copytree(ROOT / "processing", folder / "processing", ignore=ignored)
    return str(folder)


def _written(value: Any) -> str:
    """A value of a template as cdk-nag writes it in its findings."""
    if isinstance(value, str):
        return value
    ((function, given),) = value.items()
    if function == "Fn::Join":
        return str(given[0]).join(_written(part) for part in given[1])
    return f"<{given}>" if function == "Ref" else f"<{'.'.join(given)}>"
