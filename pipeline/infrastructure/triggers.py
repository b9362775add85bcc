"""The triggers: event rules, queues with dead-letter queues, and the Lambda functions that they feed."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from pipeline.definition.glue_statuses import ENDED
from pipeline.infrastructure.glue_job import GlueFeatureJob
from pipeline.infrastructure.home_bucket import HomeBucket
from pipeline.infrastructure.lambda_package import package
from pipeline.infrastructure.names import LANDING_DATABASE, PIPELINE
from pipeline.infrastructure.permissions import allow, service_role

ATTEMPTS = 4
TIMEOUT = Duration.seconds(60)


@dataclass(frozen=True)
class Reaction:
    """A function, the queue that feeds it, and the dead-letter queue behind that."""

    queue: sqs.Queue
    dead: sqs.Queue
    function: lambda_.Function
    role: iam.Role

    @property
    def name(self) -> str:
        """One of `names.REACTIONS`."""
        return str(self.function.node.id)


class Triggers(Construct):
    """The functions that start runs, and those that answer the steps of a run.

    event_sources: further event sources, beside AWS services; an emulator needs one, since only AWS can send events
        from `aws.*`
    settle_seconds: how long events that may start a run are delayed, so that the rest of a burst of files has arrived
        when the first event is handled
    packed_only: whether the API refuses joblib models, so that none is promoted
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        home: HomeBucket,
        job: GlueFeatureJob,
        package_arns: str,
        event_sources: Sequence[str],
        settle_seconds: int,
        packed_only: bool,
    ) -> None:
        super().__init__(scope, name)
        self._home, self._event_sources = home, list(event_sources)
        self._settle = Duration.seconds(settle_seconds)
        # Without a dependency on the pipeline, which itself depends on these functions.
        self._pipeline_arn = Stack.of(self).format_arn(service="sagemaker", resource="pipeline", resource_name=PIPELINE)
        with tempfile.TemporaryDirectory() as folder:
            self._code = lambda_.Code.from_asset(package(Path(folder)))
            at_home, of_job = {"FRAUDLINE_HOME": home.url}, {"FRAUDLINE_JOB": job.name}
            models = {"FRAUDLINE_MODELS": "packed" if packed_only else "any"}
            of_pipeline, attempts = {"FRAUDLINE_PIPELINE": PIPELINE}, {"FRAUDLINE_ATTEMPTS": str(ATTEMPTS)}
            self.start_run = self._reaction("StartRun", "start_run", at_home | of_pipeline, fifo=True)
            self.start_features = self._reaction("StartFeatures", "start_features", of_job | attempts)
            self.finish_features = self._reaction("FinishFeatures", "finish_features", of_job | at_home)
            self.approve = self._reaction("Approve", "approve", at_home | models)
            self.model_age = self._reaction("ModelAge", "model_age", at_home)
            self.promote_role = self._role("Promote")
            self.promote = self._function("Promote", "promote", models, self.promote_role)
        self.reactions = (self.start_run, self.start_features, self.finish_features, self.approve, self.model_age)
        self._rules(job)
        self._permissions(job, package_arns)

    def _rules(self, job: GlueFeatureJob) -> None:
        file = {"bucket": {"name": [self._home.bucket.bucket_name]}, "object": {"key": [{"prefix": "incoming/"}]}}
        self._rule("FileArrived", self.start_run, "aws.s3", ["Object Created"], file)
        # Our own tables are not watched: a run commits to them, and would start the next run.
        kinds = [f"Glue Data Catalog {kind} State Change" for kind in ("Database", "Table")]
        self._rule("TableLoaded", self.start_run, "aws.glue", kinds, {"databaseName": [LANDING_DATABASE]})
        ended = {
            "pipelineArn": [self._pipeline_arn],
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
        approved = {"ModelPackageGroupName": [PIPELINE], "ModelApprovalStatus": ["Approved"]}
        self._rule("ModelApproved", self.approve, "aws.sagemaker", ["SageMaker Model Package State Change"], approved)
        monthly = events.Schedule.cron(minute="0", hour="3", day="1")
        self._target(events.Rule(self, "Monthly", schedule=monthly, description="Monthly run"), self.start_run)
        daily = events.Schedule.cron(minute="0", hour="6")
        self._target(
            events.Rule(self, "Daily", schedule=daily, description="Daily check of the model's age"), self.model_age
        )

    def _rule(
        self, name: str, reaction: Reaction, source: str, kinds: Sequence[str], detail: Mapping[str, Any]
    ) -> None:
        pattern = events.EventPattern(source=[source, *self._event_sources], detail_type=list(kinds), detail=detail)
        self._target(events.Rule(self, name, event_pattern=pattern), reaction)

    def _target(self, rule: events.Rule, reaction: Reaction) -> None:
        group = "runs" if reaction.queue.fifo else None
        rule.add_target(targets.SqsQueue(reaction.queue, message_group_id=group))

    def _reaction(self, name: str, module: str, environment: Mapping[str, str], *, fifo: bool = False) -> Reaction:
        role = self._role(name)
        function = self._function(name, module, environment, role)
        # Encrypted with SQS's own key: with one of ours, every sender would need a permission on it.
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
            handler=f"triggers.functions.{module}.handler",
            code=self._code,
            role=role,
            memory_size=512,
            timeout=TIMEOUT,
            log_group=group,
            environment=dict(environment),
        )

    def _permissions(self, job: GlueFeatureJob, package_arns: str) -> None:
        home, pipeline = self._home, self._pipeline_arn
        starter = self.start_run.role
        allow(starter, ["sagemaker:ListPipelineExecutions", "sagemaker:StartPipelineExecution"], pipeline)
        home.allow_list(starter, "incoming/")

        allow(self.start_features.role, ["glue:StartJobRun", "glue:GetJobRuns", "glue:BatchStopJobRun"], job.arn)
        allow(self.finish_features.role, ["glue:GetJobRun"], job.arn)
        success, failure = (f"sagemaker:SendPipelineExecutionStep{kind}" for kind in ("Success", "Failure"))
        for reaction, answers in ((self.start_features, [failure]), (self.finish_features, [success, failure])):
            why = "An execution's ID is unknown before it starts."
            allow(reaction.role, answers, pipeline, f"{pipeline}/execution/*", why=why)
        why = "The folders of future runs are unknown."
        home.allow_objects(self.finish_features.role, ["s3:GetObject"], "runs/*/features.json", why=why)
        home.allow_list(self.finish_features.role, "runs/")

        for role in (self.promote_role, self.approve.role):
            why = "The names of future versions are unknown; promotion verifies their files."
            home.allow_objects(role, ["s3:GetObject"], "models/*", "contract.toml", why=why)
            home.allow_objects(role, ["s3:PutObject"], "models/latest.json")
            why = "Each change of latest.json is recorded under a new number."
            home.allow_objects(role, ["s3:PutObject"], "models/history/*", why=why)
            home.deny_overwriting(role, "models/history/*")
            home.allow_list(role, "models/", "contract.toml")
        why = "A model package's number is assigned on creation."
        allow(self.approve.role, ["sagemaker:DescribeModelPackage"], package_arns, why=why)
        home.allow_objects(self.model_age.role, ["s3:GetObject"], "models/latest.json")
        home.allow_list(self.model_age.role, "models/")
