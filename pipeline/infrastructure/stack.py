"""The one stack: every part's construct, put together, and what others need to know of them as outputs."""

import json
from pathlib import Path
from typing import Any

from aws_cdk import App, Aws, CfnCondition, CfnOutput, CfnParameter, Environment, Fn, Stack, Tags, Token, Validations
from cdk_nag import AwsSolutionsChecks

from pipeline.infrastructure.alarms import Alarms
from pipeline.infrastructure.api import MAX_TASKS, Api, Load, Network, OnlineTable
from pipeline.infrastructure.data import Data, FeatureJob
from pipeline.infrastructure.deployment import LEAVE_TASKS, OUTPUT, Deployment
from pipeline.infrastructure.drift_watch import DriftWatch
from pipeline.infrastructure.training import NAME, RunPipeline, Training
from pipeline.infrastructure.triggers import Triggers

STACK = "Fraudline"
NO_IMAGE = "none"
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
    """Everything. ImageTag, ServingTasks and StartTasks may change between deployments; see `_load`."""

    def __init__(self, scope: App, name: str, deployment: Deployment) -> None:
        super().__init__(
            scope,
            name,
            env=Environment(account=deployment.account, region=deployment.region),
            description="Fraudline: a credit-card fraud pipeline, from raw transactions to decisions",
            analytics_reporting=False,
        )
        load = self._load()
        data = Data(self, "Data")
        network = Network(self, "Network", zones=deployment.zones, logs_bucket=data.logs)
        online = OnlineTable(self, "Online")
        job = FeatureJob(
            self,
            "Features",
            data=data,
            online=online.table,
            contract=deployment.contract,
            max_workers=deployment.max_glue_workers,
        )
        training = Training(self, "Training", data=data, network=network.vpc)
        api = Api(
            self,
            "Api",
            data=data,
            network=network,
            table=online.table,
            repository=training.repository,
            load=load,
            certificate_arn=deployment.certificate_arn,
            clients=deployment.clients,
            packed_only=not deployment.allow_joblib,
        )
        drift = DriftWatch(
            self,
            "Drift",
            data=data,
            api=api,
            table=online.table,
            repository=training.repository,
            image_tag=load.image_tag,
            has_image=self._pushed,
        )
        triggers = Triggers(
            self,
            "Triggers",
            data=data,
            job=job,
            models=training.package_arns,
            event_sources=deployment.event_sources,
            settle_seconds=deployment.settle_seconds,
            packed_only=not deployment.allow_joblib,
        )
        run = RunPipeline(
            self,
            "Run",
            data=data,
            training=training,
            image_tag=load.image_tag,
            features_queue=triggers.start_features.queue,
            promote=triggers.promote,
            packed_only=not deployment.allow_joblib,
        )
        alarms = Alarms(self, "Alarms", key=data.key, triggers=triggers, api=api, job=job, email=deployment.alarm_email)
        self._outputs(
            HomeUrl=data.home_url,
            KeyArn=data.key.key_arn,
            LogsBucket=data.logs.bucket_name,
            GlueJobName=job.name,
            OnlineTable=online.table.table_name,
            Repository=training.repository.repository_uri,
            PipelineName=NAME,
            ModelPackageGroup=NAME,
            ApiUrl=api.url,
            ApiKeysSecret=api.keys.secret_arn,
            ApiLogGroup=api.log_group.log_group_name,
            ClusterName=api.cluster.cluster_name,
            ServiceName=api.service.service_name,
            TaskDefinition=api.task.task_definition_arn,
            AlarmTopic=alarms.topic.topic_arn,
            FeatureJobRole=job.role.role_arn,
            TrainingRole=training.role.role_arn,
            EvaluationRole=training.evaluation_role.role_arn,
            PipelineRole=run.role.role_arn,
            ApiTaskRole=api.task_role.role_arn,
            DriftRole=drift.role.role_arn,
            ApiExecutionRole=api.execution_role.role_arn,
            PromoteFunction=triggers.promote.function_name,
            PromoteRole=triggers.promote_role.role_arn,
        )
        self._outputs(**{OUTPUT: json.dumps(deployment.settings())})
        for reaction in triggers.reactions:
            label = reaction.function.node.id
            self._outputs(
                **{
                    f"{label}Function": reaction.function.function_name,
                    f"{label}QueueUrl": reaction.queue.queue_url,
                    f"{label}DeadUrl": reaction.dead.queue_url,
                    f"{label}Role": reaction.role.role_arn,
                }
            )
        Tags.of(self).add("application", "fraudline")

    def _load(self) -> Load:
        """The image and the number of tasks. As long as there is no image, no task is asked for.

        ServingTasks are the fewest that scaling leaves; StartTasks is how many this deployment asks for. The service
        that is there keeps the number that it was scaled to if that is LEAVE_TASKS.
        """
        tag = CfnParameter(
            self,
            "ImageTag",
            type="String",
            default="",
            allowed_pattern="[A-Za-z0-9._-]{0,128}",
            description="Tag of the image in the stack's repository; empty as long as none was pushed",
        )
        tasks = CfnParameter(
            self,
            "ServingTasks",
            type="Number",
            default=2,
            min_value=0,
            max_value=MAX_TASKS,
            description="Tasks of the API at least; 0 as long as no model was promoted",
        )
        start = CfnParameter(
            self,
            "StartTasks",
            type="Number",
            default=0,
            min_value=int(LEAVE_TASKS),
            max_value=MAX_TASKS,
            description=f"Tasks that the API is set to now; {LEAVE_TASKS} to leave it at as many as it has",
        )
        has_tag = Fn.condition_not(Fn.condition_equals(tag, ""))
        pushed = self._pushed = CfnCondition(self, "HasImage", expression=has_tag)
        left = CfnCondition(
            self, "LeaveTasks", expression=Fn.condition_and(has_tag, Fn.condition_equals(start, LEAVE_TASKS))
        )
        return Load(
            Token.as_string(Fn.condition_if(pushed.logical_id, tag.value_as_string, NO_IMAGE)),
            int(Token.as_number(Fn.condition_if(pushed.logical_id, tasks.value_as_number, 0))),
            Fn.condition_if(
                left.logical_id, Aws.NO_VALUE, Fn.condition_if(pushed.logical_id, start.value_as_number, 0)
            ),
        )

    def _outputs(self, **values: str) -> None:
        for name, value in values.items():
            CfnOutput(self, name, value=value)


def make_app(deployment: Deployment, folder: Path | None = None, context: dict[str, Any] | None = None) -> App:
    """The CDK app, checked by cdk-nag as it is synthesized; `folder` is where that puts the result."""
    app = App(outdir=str(folder) if folder else None, context={**FLAGS, **(context or {})}, analytics_reporting=False)
    FraudlineStack(app, STACK, deployment)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return app
