"""The feature job in Glue, with the Glue databases: our own, and the one that other teams load tables into."""

import re
import shutil
import tempfile
import tomllib
from pathlib import Path

from aws_cdk import RemovalPolicy, Stack
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from pipeline.infrastructure.home_bucket import HomeBucket
from pipeline.infrastructure.names import DATABASE, LANDING_DATABASE
from pipeline.infrastructure.online_table import READS, WRITES, OnlineTable
from pipeline.infrastructure.permissions import allow, service_role
from processing.job.spark_settings import SHARED

LOG_PREFIX = "/fraudline/features"
ROOT = Path(__file__).parents[2]


class GlueFeatureJob(Construct):
    """The Glue job that reads files and computes features, and the databases it uses."""

    def __init__(
        self, scope: Construct, name: str, *, home: HomeBucket, online: OnlineTable, contract: str, max_workers: int
    ) -> None:
        super().__init__(scope, name)
        stack = Stack.of(self)
        self.name = f"{stack.stack_name.lower()}-features"
        self.arn = stack.format_arn(service="glue", resource="job", resource_name=self.name)
        self._database("Database", DATABASE, f"{home.url}/warehouse")
        self._database("Landing", LANDING_DATABASE, f"{home.url}/incoming")
        self.role = service_role(self, "Role", "glue.amazonaws.com", "The feature job")
        security = self._security(home.key)
        with tempfile.TemporaryDirectory() as folder:
            package = assets.Asset(self, "Package", path=_package(Path(folder)))
        script = assets.Asset(self, "Script", path=str(ROOT / "processing" / "job" / "glue_script.py"))
        spark = {**SHARED, "spark.executorEnv.AWS_REGION": stack.region}
        self.job = glue.CfnJob(
            self,
            "Job",
            name=self.name,
            description="Reads the files in incoming/, updates the features, writes the run's train and test sets",
            role=self.role.role_arn,
            glue_version="5.1",
            worker_type="G.1X",
            number_of_workers=max_workers,  # auto-scaling starts no more than these
            timeout=120,
            max_retries=0,  # a failure fails the pipeline's step at once
            execution_property=glue.CfnJob.ExecutionPropertyProperty(max_concurrent_runs=1),
            security_configuration=security.name,
            command=glue.CfnJob.JobCommandProperty(
                name="glueetl", python_version="3", script_location=script.s3_object_url
            ),
            default_arguments={
                "--additional-python-modules": ",".join(glue_modules()),
                "--conf": " --conf ".join(f"{key}={value}" for key, value in spark.items()),
                "--default-contract": contract,
                "--custom-logGroup-prefix": LOG_PREFIX,
                "--enable-auto-scaling": "true",
                "--enable-continuous-cloudwatch-log": "true",
                "--enable-metrics": "true",
                "--enable-observability-metrics": "true",
                "--extra-py-files": package.s3_object_url,
                "--home": home.url,
                "--home-region": stack.region,
                "--online-table": online.name,
            },
        )
        self.job.add_resource_dependency(security)
        for asset in (script, package):
            allow(self.role, ["s3:GetObject"], asset.bucket.arn_for_objects(asset.s3_object_key))
        self._allow_home(home)
        self._allow_catalog()
        online.allow(self.role, *READS, *WRITES, "DescribeTable")
        self._allow_logs_and_metrics()

    def _database(self, name: str, database: str, url: str) -> None:
        resource = glue.CfnDatabase(
            self,
            name,
            catalog_id=Stack.of(self).account,
            database_input=glue.CfnDatabase.DatabaseInputProperty(name=database, location_uri=url),
        )
        # Deleting a database deletes its tables, and only they record where each table's current metadata is.
        resource.apply_removal_policy(RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)

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
                resources=["*"],  # in a key policy: this key
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            )
        )
        return configuration(self, "Security", name=self.name, encryption_configuration=encryption)

    def _allow_home(self, home: HomeBucket) -> None:
        role, files = self.role, "Names of files and runs are known only as they come."
        home.allow_objects(role, ["s3:GetObject", "s3:DeleteObject"], "incoming/*", why=files)
        home.allow_objects(role, ["s3:PutObject", "s3:AbortMultipartUpload"], "archive/*", why=files)
        everything = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        home.allow_objects(role, everything, "warehouse/*", "runs/*", "claimed/*", why=files)
        home.allow_objects(role, ["s3:GetObject", "s3:PutObject"], "contract.toml")
        why = "The contract that waits for the next run, and those that were replaced, named by the time of that."
        home.allow_objects(role, ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], "contracts/*", why=why)
        home.allow_objects(role, ["s3:GetObject"], "code/*", why="Experiments bring code of their own along.")
        why = "Which model serves, and what it was trained under, so that the test rows get its features too."
        home.allow_objects(role, ["s3:GetObject"], "models/latest.json", "models/*/manifest.json", why=why)
        folders = ("incoming/", "claimed/", "archive/", "warehouse/", "runs/", "contracts/", "models/", "code/")
        home.allow_list(role, "contract.toml", *folders)
        # Spark writes through S3A in Glue 5.1, which looks for unfinished multipart uploads.
        allow(role, ["s3:ListBucketMultipartUploads"], home.bucket.bucket_arn)

    def _allow_catalog(self) -> None:
        def catalog(kind: str, name: str | None = None) -> str:
            return Stack.of(self).format_arn(service="glue", resource=kind, resource_name=name)

        tables = ("GetTable", "GetTables", "CreateTable", "UpdateTable", "DeleteTable")
        allow(
            self.role,
            ["glue:GetDatabase", *(f"glue:{action}" for action in tables)],
            catalog("catalog"),
            catalog("database", DATABASE),
            catalog("table", f"{DATABASE}/*"),
            why="The job creates its tables and renames those of an older definition to a dated name.",
        )

    def _allow_logs_and_metrics(self) -> None:
        allow(
            self.role,
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:AssociateKmsKey"],
            Stack.of(self).format_arn(service="logs", resource=f"log-group:{LOG_PREFIX}*"),
            why="Glue creates its log groups under this prefix and names their streams after job runs.",
        )
        allow(
            self.role,
            ["cloudwatch:PutMetricData"],
            "*",
            why="PutMetricData has no resource-level permissions; the condition limits it to Glue's namespace.",
            only={"StringEquals": {"cloudwatch:namespace": "Glue"}},
        )


def glue_modules() -> list[str]:
    """The packages that Glue installs for the job: its dependency group as pinned, without those Glue comes with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    names = {re.split(r"[\[<>=]", line)[0] for line in project["optional-dependencies"]["processing"]}
    return [f"{name}=={pins[name]}" for name in sorted(names - {"pyspark", "boto3"})]


def _package(folder: Path) -> str:
    """A folder with the package `processing`, as the job ships it."""
    ignored = shutil.ignore_patterns("__pycache__", "glue_script.py")
    shutil.copytree(ROOT / "processing", folder / "processing", ignore=ignored)
    return str(folder)
