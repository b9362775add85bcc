"""The triggers' part of the stack: event rules, queues with dead-letter queues, and the functions they feed."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from pipeline.definition.glue_statuses import ENDED
from pipeline.infrastructure.data import LANDING, ROOT, Data, FeatureJob, allow, deny_overwriting, service_role
from pipeline.infrastructure.training import NAME, pipeline_arn
from processing.errors import FraudlineError

ATTEMPTS = 4
TIMEOUT = Duration.seconds(60)
SHIPPED = (  # what the functions are made of, beside Powertools; the rest of the packages stays here
    "pipeline/__init__.py",
    "pipeline/definition/__init__.py",
    "pipeline/definition/glue_statuses.py",
    "pipeline/metric_names.py",
    "pipeline/registry/__init__.py",
    "pipeline/registry/pointer.py",
    "pipeline/registry/registry.py",
    "pipeline/registry/servable.py",
    "pipeline/registry/versions.py",
    "processing/__init__.py",
    "processing/storage/__init__.py",
    "processing/storage/address.py",
    "processing/storage/local.py",
    "processing/storage/open.py",
    "processing/aws_client.py",
    "processing/storage/documents.py",
    "processing/errors.py",
    "processing/storage/home.py",
    "processing/storage/s3.py",
    "processing/storage/scratch.py",
    "triggers/__init__.py",
    "triggers/functions/__init__.py",
    "triggers/functions/approve.py",
    "triggers/functions/finish_features.py",
    "triggers/functions/glue_runs.py",
    "triggers/functions/model_age.py",
    "triggers/functions/promote.py",
    "triggers/functions/sagemaker_runs.py",
    "triggers/functions/settings.py",
    "triggers/functions/start_features.py",
    "triggers/functions/start_run.py",
)


POWERTOOLS = ("aws_lambda_powertools", "jmespath", "typing_extensions")  # boto3 is Lambda's own


@dataclass(frozen=True)
class Reaction:
    """A queue, the dead-letter queue behind it, and the function that takes from it."""

    queue: sqs.Queue
    dead: sqs.Queue
    function: lambda_.Function
    role: iam.Role


class Triggers(Construct):
    """What starts a run, and what answers while one goes on.

    `event_sources` are further sources whose events count as those of AWS services, for an emulator: nobody but
    AWS can send events from `aws.*`. `settle_seconds`: how long events that may call for a run are held back, so that
    the rest of a burst of files is there when the first of them is looked at. `packed_only`: whether the API refuses
    joblib models, so that none is promoted.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        data: Data,
        job: FeatureJob,
        models: str,
        event_sources: Sequence[str],
        settle_seconds: int,
        packed_only: bool,
    ) -> None:
        super().__init__(scope, name)
        self._data, self._further, self._settle = data, list(event_sources), Duration.seconds(settle_seconds)
        with tempfile.TemporaryDirectory() as folder:
            self._code = lambda_.Code.from_asset(package(Path(folder)))
            home = {"FRAUDLINE_HOME": data.home_url}
            of_job = {"FRAUDLINE_JOB": job.name}
            self.start_run = self._reaction("StartRun", "start_run", home | {"FRAUDLINE_PIPELINE": NAME}, fifo=True)
            attempts = {"FRAUDLINE_ATTEMPTS": str(ATTEMPTS)}
            self.start_features = self._reaction("StartFeatures", "start_features", of_job | attempts)
            self.finish_features = self._reaction("FinishFeatures", "finish_features", of_job | home)
            loads = {"FRAUDLINE_MODELS": "packed" if packed_only else "any"}
            self.approve = self._reaction("Approve", "approve", home | loads)
            self.model_age = self._reaction("ModelAge", "model_age", home)
            self.promote_role = self._role("Promote")
            self.promote = self._function("Promote", "promote", loads, self.promote_role)
        self.reactions = (self.start_run, self.start_features, self.finish_features, self.approve, self.model_age)
        self._rules(job)
        self._permissions(job, models)

    def _rules(self, job: FeatureJob) -> None:
        arrived = {"bucket": {"name": [self._data.bucket.bucket_name]}, "object": {"key": [{"prefix": "incoming/"}]}}
        self._rule("FileArrived", self.start_run, "aws.s3", ["Object Created"], arrived)
        # Never our own tables: a run commits to them, and would start the next.
        loaded = [f"Glue Data Catalog {kind} State Change" for kind in ("Database", "Table")]
        self._rule("TableLoaded", self.start_run, "aws.glue", loaded, {"databaseName": [LANDING]})
        ended = {
            "pipelineArn": [pipeline_arn(self)],
            "currentPipelineExecutionStatus": ["Succeeded", "Failed", "Stopped"],
        }
        self._rule(
            "RunEnded",
            self.start_run,
            "aws.sagemaker",
            ["SageMaker Model Building Pipeline Execution Status Change"],
            ended,
        )
        features = {"jobName": [job.name], "state": list(ENDED)}
        self._rule("FeaturesEnded", self.finish_features, "aws.glue", ["Glue Job State Change"], features)
        approved = {"ModelPackageGroupName": [NAME], "ModelApprovalStatus": ["Approved"]}
        self._rule("ModelApproved", self.approve, "aws.sagemaker", ["SageMaker Model Package State Change"], approved)
        monthly = events.Schedule.cron(minute="0", hour="3", day="1")
        self._target(events.Rule(self, "Monthly", schedule=monthly, description="A run every month"), self.start_run)
        daily = events.Schedule.cron(minute="0", hour="6")
        self._target(events.Rule(self, "Daily", schedule=daily, description="The model's age"), self.model_age)

    def _rule(
        self, name: str, reaction: Reaction, source: str, kinds: Sequence[str], detail: Mapping[str, Any]
    ) -> None:
        pattern = events.EventPattern(source=[source, *self._further], detail_type=list(kinds), detail=detail)
        self._target(events.Rule(self, name, event_pattern=pattern), reaction)

    def _target(self, rule: events.Rule, reaction: Reaction) -> None:
        group = "runs" if reaction.queue.fifo else None
        rule.add_target(targets.SqsQueue(reaction.queue, message_group_id=group))

    def _reaction(self, name: str, module: str, environment: Mapping[str, str], *, fifo: bool = False) -> Reaction:
        role = self._role(name)
        function = self._function(name, module, environment, role)
        # Encrypted by SQS itself: with a key of ours, every sender would need a right on that key.
        dead = sqs.Queue(
            self,
            f"{name}Dead",
            fifo=fifo or None,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        queue = sqs.Queue(
            self,
            f"{name}Queue",
            fifo=fifo or None,
            content_based_deduplication=fifo or None,
            delivery_delay=self._settle if fifo else None,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            visibility_timeout=Duration.seconds(6 * TIMEOUT.to_seconds()),
            retention_period=Duration.days(4),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=ATTEMPTS),
        )
        function.add_event_source(sources.SqsEventSource(queue, batch_size=10, report_batch_item_failures=not fifo))
        return Reaction(queue, dead, function, role)

    def _role(self, name: str) -> iam.Role:
        return service_role(self, f"{name}Role", "lambda.amazonaws.com", f"The function {name}")

    def _function(self, name: str, module: str, environment: Mapping[str, str], role: iam.Role) -> lambda_.Function:
        group = logs.LogGroup(
            self, f"{name}Log", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=RemovalPolicy.DESTROY
        )
        allow(role, ["logs:CreateLogStream", "logs:PutLogEvents"], group.log_group_arn)
        return lambda_.Function(
            self,
            name,
            runtime=lambda_.Runtime.PYTHON_3_14,
            handler=f"triggers.{module}.handler",
            code=self._code,
            role=role,
            memory_size=512,
            timeout=TIMEOUT,
            log_group=group,
            environment=dict(environment),
        )

    def _permissions(self, job: FeatureJob, models: str) -> None:
        data, pipeline = self._data, pipeline_arn(self)
        starter = self.start_run.role
        allow(starter, ["sagemaker:ListPipelineExecutions", "sagemaker:StartPipelineExecution"], pipeline)
        data.allow_list(starter, "incoming/")

        allow(self.start_features.role, ["glue:StartJobRun", "glue:GetJobRuns", "glue:BatchStopJobRun"], job.arn)
        allow(self.finish_features.role, ["glue:GetJobRun"], job.arn)
        success, failure = (f"sagemaker:SendPipelineExecutionStep{kind}" for kind in ("Success", "Failure"))
        for reaction, answers in ((self.start_features, [failure]), (self.finish_features, [success, failure])):
            why = "An execution has no id before it is started."
            allow(reaction.role, answers, pipeline, f"{pipeline}/execution/*", why=why)
        why = "A run's folder is known only once it goes on."
        data.allow_objects(self.finish_features.role, ["s3:GetObject"], "runs/*/features.json", why=why)
        data.allow_list(self.finish_features.role, "runs/")

        for role in (self.promote_role, self.approve.role):
            why = "A version's name is known only once it was published; its files are verified."
            data.allow_objects(role, ["s3:GetObject"], "models/*", "contract.toml", why=why)
            data.allow_objects(role, ["s3:PutObject"], "models/latest.json")
            why = "Each change of latest.json is recorded under a number of its own."
            data.allow_objects(role, ["s3:PutObject"], "models/history/*", why=why)
            deny_overwriting(role, data, "models/history/*")
            data.allow_list(role, "models/", "contract.toml")
        why = "A model package's number is given as it is made."
        allow(self.approve.role, ["sagemaker:DescribeModelPackage"], models, why=why)
        data.allow_objects(self.model_age.role, ["s3:GetObject"], "models/latest.json")
        data.allow_list(self.model_age.role, "models/")


def package(folder: Path) -> str:
    """Lay the functions' code out in a folder, Powertools and what it needs included; the folder's path.

    All of it is plain Python, so the copies that are installed here also work in Lambda.
    """
    for name in SHIPPED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    for name in POWERTOOLS:
        found = find_spec(name)
        if not found or not found.origin:
            raise FraudlineError(f"{name} is not installed, which the functions need: run `make setup`")
        source = Path(found.origin)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / source.name)
    return str(folder)
