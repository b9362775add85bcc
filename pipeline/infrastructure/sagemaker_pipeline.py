"""The SageMaker pipeline, made from the definition in `pipeline.definition.pipeline`."""

import json

from aws_cdk import Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from pipeline.definition.pipeline import build_definition
from pipeline.definition.requests import Addresses
from pipeline.infrastructure.home_bucket import HomeBucket
from pipeline.infrastructure.names import PIPELINE
from pipeline.infrastructure.permissions import allow, service_role
from pipeline.infrastructure.training_jobs import JOB_KINDS, TrainingJobs, allow_volumes


class SageMakerPipeline(Construct):
    """The pipeline; each deployment updates its definition."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        home: HomeBucket,
        jobs: TrainingJobs,
        image_tag: str,
        features_queue: sqs.Queue,
        promote: lambda_.Function,
        packed_only: bool,
    ) -> None:
        super().__init__(scope, name)
        role = service_role(self, "Role", "sagemaker.amazonaws.com", "The pipeline: starts the steps, registers models")
        self.role = role
        document = build_definition(
            Addresses(
                image=jobs.repository.repository_uri_for_tag(image_tag),
                features_queue_url=features_queue.queue_url,
                promote_function_arn=promote.function_arn,
                training_role_arn=jobs.role.role_arn,
                evaluation_role_arn=jobs.evaluation_role.role_arn,
                pipeline_name=PIPELINE,
                model_package_group=PIPELINE,
                home_url=home.url,
                input_url=f"{home.url}/incoming/",
                packed_only=packed_only,
                region=Stack.of(self).region,
                kms_key=home.key.key_arn,
                subnets=tuple(subnet.subnet_id for subnet in jobs.subnets),
                security_groups=(jobs.security_group.security_group_id,),
            )
        )
        self.resource = sagemaker.CfnPipeline(
            self,
            "Pipeline",
            pipeline_name=PIPELINE,
            pipeline_display_name="Fraudline",
            pipeline_description="Features, training, evaluation, gate, registration, promotion",
            pipeline_definition={"PipelineDefinitionBody": json.dumps(document)},
            role_arn=role.role_arn,
        )
        self._permissions(home, jobs, features_queue, promote)
        # SageMaker checks on creation that it can assume the role and that the role allows what the steps do.
        self.resource.node.add_dependency(role, jobs.group)

    def _permissions(
        self, home: HomeBucket, jobs: TrainingJobs, features_queue: sqs.Queue, promote: lambda_.Function
    ) -> None:
        role, stack = self.role, Stack.of(self)
        job_arns = [
            stack.format_arn(service="sagemaker", resource=f"{kind.lower()}-job", resource_name="*")
            for kind in JOB_KINDS
        ]
        verbs = ("Create", "Describe", "Stop")
        allow(
            role,
            [*(f"sagemaker:{verb}{kind}Job" for kind in JOB_KINDS for verb in verbs), "sagemaker:AddTags"],
            *job_arns,
            why="SageMaker chooses the names of a pipeline's jobs.",
        )
        allow(
            role,
            ["sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackage", "sagemaker:AddTags"],
            stack.format_arn(service="sagemaker", resource="model-package-group", resource_name=PIPELINE),
            jobs.package_arns,
            why="A model package's number is assigned on creation.",
        )
        allow(
            role,
            ["iam:PassRole"],
            jobs.role.role_arn,
            jobs.evaluation_role.role_arn,
            only={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        )
        allow_volumes(role, home)
        allow(role, ["sqs:SendMessage", "sqs:GetQueueAttributes"], features_queue.queue_arn)
        allow(role, ["lambda:InvokeFunction"], promote.function_arn)
        home.allow_objects(
            role,
            ["s3:GetObject"],
            "runs/*/evaluation/*",
            "runs/*/train-output/*",
            why="The gate reads evaluations and registration reads models of runs that have not started yet.",
        )
