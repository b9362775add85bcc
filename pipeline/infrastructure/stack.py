"""The stack: all constructs put together, and its outputs."""

import json
from pathlib import Path
from typing import Any

from aws_cdk import App, CfnOutput, Environment, Stack, Tags, Validations
from cdk_nag import AwsSolutionsChecks

from pipeline.infrastructure.alarms import Alarms
from pipeline.infrastructure.dashboard import add_dashboard
from pipeline.infrastructure.deployment import SETTINGS_OUTPUT, Deployment
from pipeline.infrastructure.drift_check import DriftCheck
from pipeline.infrastructure.glue_job import GlueFeatureJob
from pipeline.infrastructure.home_bucket import HomeBucket
from pipeline.infrastructure.names import PIPELINE, STACK, Output, ReactionOutput
from pipeline.infrastructure.network import Network
from pipeline.infrastructure.online_table import OnlineTable
from pipeline.infrastructure.parameters import declare_parameters
from pipeline.infrastructure.sagemaker_pipeline import SageMakerPipeline
from pipeline.infrastructure.scoring_api import ScoringApi
from pipeline.infrastructure.training_jobs import TrainingJobs
from pipeline.infrastructure.triggers import Reaction, Triggers

FLAGS = {  # today's behaviour of the CDK, where its default is an older one
    "@aws-cdk/aws-ec2:restrictDefaultSecurityGroup": False,
    "@aws-cdk/aws-iam:minimizePolicies": True,
    "@aws-cdk/aws-s3:createDefaultLoggingPolicy": True,
    "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True,
    "@aws-cdk/aws-ecs:disableExplicitDeploymentControllerForCircuitBreaker": True,
    "@aws-cdk/core:checkSecretUsage": True,
    "@aws-cdk/core:enablePartitionLiterals": True,
    "aws:cdk:enable-path-metadata": False,
}


class FraudlineStack(Stack):
    """The whole system."""

    def __init__(self, scope: App, name: str, deployment: Deployment) -> None:
        super().__init__(
            scope,
            name,
            env=Environment(account=deployment.account, region=deployment.region),
            description="Fraudline: a credit-card fraud pipeline, from raw transactions to decisions",
            analytics_reporting=False,
        )
        packed_only = not deployment.allow_joblib
        parameters = declare_parameters(self)
        home = HomeBucket(self, "Data")
        network = Network(self, "Network", zones=deployment.zones, logs_bucket=home.logs)
        online = OnlineTable(self, "Online")
        job = GlueFeatureJob(
            self,
            "Features",
            home=home,
            online=online,
            contract=deployment.contract,
            max_workers=deployment.max_glue_workers,
        )
        jobs = TrainingJobs(self, "Training", home=home, network=network.vpc)
        api = ScoringApi(
            self,
            "Api",
            home=home,
            network=network,
            online=online,
            repository=jobs.repository,
            parameters=parameters,
            certificate_arn=deployment.certificate_arn,
            clients=deployment.clients,
            packed_only=packed_only,
        )
        drift = DriftCheck(
            self, "Drift", home=home, api=api, online=online, repository=jobs.repository, parameters=parameters
        )
        triggers = Triggers(
            self,
            "Triggers",
            home=home,
            job=job,
            package_arns=jobs.package_arns,
            event_sources=deployment.event_sources,
            settle_seconds=deployment.settle_seconds,
            packed_only=packed_only,
        )
        pipeline = SageMakerPipeline(
            self,
            "Run",
            home=home,
            jobs=jobs,
            image_tag=parameters.image_tag,
            features_queue=triggers.start_features.queue,
            promote=triggers.promote,
            packed_only=packed_only,
        )
        alarms = Alarms(self, "Alarms", key=home.key, triggers=triggers, api=api, email=deployment.alarm_email)
        add_dashboard(alarms, triggers=triggers, api=api, job=job)
        self._outputs(
            {
                Output.HOME_URL: home.url,
                Output.KEY_ARN: home.key.key_arn,
                Output.LOGS_BUCKET: home.logs.bucket_name,
                Output.GLUE_JOB_NAME: job.name,
                Output.ONLINE_TABLE: online.name,
                Output.REPOSITORY: jobs.repository.repository_uri,
                Output.PIPELINE_NAME: PIPELINE,
                Output.MODEL_PACKAGE_GROUP: PIPELINE,
                Output.API_URL: api.url,
                Output.API_KEYS_SECRET: api.keys.secret_arn,
                Output.API_LOG_GROUP: api.log_group.log_group_name,
                Output.CLUSTER_NAME: api.cluster.cluster_name,
                Output.SERVICE_NAME: api.service.service_name,
                Output.TASK_DEFINITION: api.task.task_definition_arn,
                Output.ALARM_TOPIC: alarms.topic.topic_arn,
                Output.FEATURE_JOB_ROLE: job.role.role_arn,
                Output.TRAINING_ROLE: jobs.role.role_arn,
                Output.EVALUATION_ROLE: jobs.evaluation_role.role_arn,
                Output.PIPELINE_ROLE: pipeline.role.role_arn,
                Output.API_TASK_ROLE: api.task_role.role_arn,
                Output.DRIFT_ROLE: drift.role.role_arn,
                Output.API_EXECUTION_ROLE: api.execution_role.role_arn,
                Output.PROMOTE_FUNCTION: triggers.promote.function_name,
                Output.PROMOTE_ROLE: triggers.promote_role.role_arn,
                SETTINGS_OUTPUT: json.dumps(deployment.settings()),
            }
        )
        for reaction in triggers.reactions:
            self._outputs(_reaction_outputs(reaction))
        Tags.of(self).add("application", "fraudline")

    def _outputs(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            CfnOutput(self, name, value=value)


def _reaction_outputs(reaction: Reaction) -> dict[str, str]:
    values = {
        ReactionOutput.FUNCTION: reaction.function.function_name,
        ReactionOutput.QUEUE_URL: reaction.queue.queue_url,
        ReactionOutput.DEAD_URL: reaction.dead.queue_url,
        ReactionOutput.ROLE: reaction.role.role_arn,
    }
    return {output.of(reaction.name): value for output, value in values.items()}


def make_app(deployment: Deployment, folder: Path | None = None, context: dict[str, Any] | None = None) -> App:
    """The CDK app. Synthesizing it writes the assembly to `folder`, and fails if cdk-nag finds anything."""
    app = App(outdir=str(folder) if folder else None, context={**FLAGS, **(context or {})}, analytics_reporting=False)
    FraudlineStack(app, STACK, deployment)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return app
