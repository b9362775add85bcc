"""Training's part of the stack: the image's repository, the model registry's group, the SageMaker pipeline."""

import json

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from pipeline.definition.pipeline import build_definition
from pipeline.definition.requests import Addresses
from pipeline.infrastructure.data import Data, allow, deny, deny_overwriting, service_role

NAME = "fraudline"  # of the pipeline, as Studio shows it, and of its model package group
UNTAGGED_DAYS = 30  # that an image without a tag is kept
KINDS = ("Training", "Processing")  # of jobs


class Training(Construct):
    """What training and evaluation need: the one image's repository, the group of model packages, the jobs' roles.

    They have a role each. Training runs an experiment's own code, so its role may write what the run's Train step
    delivers, and nothing that anything is decided by. Evaluation's role publishes versions with their verdicts: each of
    their files once, and never over another.
    """

    def __init__(self, scope: Construct, name: str, *, data: Data, network: ec2.IVpc) -> None:
        super().__init__(scope, name)
        stack = Stack.of(self)
        self.repository = ecr.Repository(
            self,
            "Images",
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            encryption=ecr.RepositoryEncryption.KMS,
            encryption_key=data.key,
            # A tagged image may be the one in use, however old it is: the rule knows only when it was pushed.
            lifecycle_rules=[
                ecr.LifecycleRule(tag_status=ecr.TagStatus.UNTAGGED, max_image_age=Duration.days(UNTAGGED_DAYS))
            ],
            removal_policy=RemovalPolicy.DESTROY,
            empty_on_delete=True,  # an image is built again from the repository
        )
        self.group = sagemaker.CfnModelPackageGroup(
            self,
            "Models",
            model_package_group_name=NAME,
            model_package_group_description="Fraud models: what each was measured at, and whether it may serve",
        )
        self.package_arns = stack.format_arn(service="sagemaker", resource="model-package", resource_name=f"{NAME}/*")
        self.subnets = network.isolated_subnets
        self.security_group = ec2.SecurityGroup(
            self, "Jobs", vpc=network, allow_all_outbound=False, description="Training and evaluation"
        )
        # The subnets have a way to S3 alone; its addresses are public ones.
        self.security_group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "S3, through the gateway endpoint")
        self.role = service_role(self, "JobRole", "sagemaker.amazonaws.com", "Training")
        self.evaluation_role = service_role(self, "EvaluationRole", "sagemaker.amazonaws.com", "Evaluation")
        self._training_permissions(data)
        self._evaluation_permissions(data)
        for role in (self.role, self.evaluation_role):
            self._job_permissions(role, data)
            self._network_permissions(role)

    def _training_permissions(self, data: Data) -> None:
        why = "A run's folder is known only once it goes on."
        data.allow_objects(self.role, ["s3:GetObject"], "runs/*/train/*", "runs/*/contract/*", why=why)
        writes = ["s3:PutObject", "s3:AbortMultipartUpload"]
        data.allow_objects(self.role, writes, "runs/*/train-output/*", why=why)
        data.allow_list(self.role, "runs/")

    def _evaluation_permissions(self, data: Data) -> None:
        role = self.evaluation_role
        why = "A run's folder is known only once it goes on."
        data.allow_objects(role, ["s3:GetObject"], "runs/*", why=why)
        data.allow_objects(role, ["s3:PutObject", "s3:AbortMultipartUpload"], "runs/*/evaluation/*", why=why)
        why = "Evaluation reads the champion's version and publishes the challenger under a new one."
        data.allow_objects(role, ["s3:GetObject", "s3:PutObject"], "models/*", why=why)
        deny_overwriting(role, data, "models/*")
        changes = ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"]
        deny(role, changes, data, "models/latest.json", "models/history/*")
        data.allow_list(role, "runs/", "models/")

    def _job_permissions(self, role: iam.Role, data: Data) -> None:
        stack = Stack.of(self)
        _allow_volumes(role, data)
        allow(role, ["kms:Encrypt"], data.key.key_arn)  # as SageMaker's documentation asks for a job's outputs
        pull = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
        allow(role, pull, self.repository.repository_arn)
        allow(role, ["ecr:GetAuthorizationToken"], "*", why="The token is the registry's; the call knows no resources.")
        groups = [stack.format_arn(service="logs", resource=f"log-group:/aws/sagemaker/{kind}Jobs*") for kind in KINDS]
        allow(
            role,
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
            *groups,
            why="SageMaker names the streams by job.",
        )
        allow(
            role,
            ["cloudwatch:PutMetricData"],
            "*",
            why="PutMetricData knows no resources; the condition leaves it SageMaker's own namespaces.",
            only={"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
        )

    def _network_permissions(self, role: iam.Role) -> None:
        """Jobs in a network of ours: SageMaker makes their network interfaces with the job's role."""
        stack = Stack.of(self)
        places = [
            stack.format_arn(service="ec2", resource="subnet", resource_name=subnet.subnet_id)
            for subnet in self.subnets
        ]
        group = stack.format_arn(
            service="ec2", resource="security-group", resource_name=self.security_group.security_group_id
        )
        interfaces = stack.format_arn(service="ec2", resource="network-interface", resource_name="*")
        made = "An interface has no id before it is made."
        allow(role, ["ec2:CreateNetworkInterface"], interfaces, group, *places, why=made)
        changes = ("CreateNetworkInterfacePermission", "DeleteNetworkInterface", "DeleteNetworkInterfacePermission")
        allow(role, [f"ec2:{action}" for action in changes], interfaces, why=made)
        seen = ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
        allow(role, [f"ec2:Describe{what}" for what in seen], "*", why="EC2's Describe calls know no resources.")


class RunPipeline(Construct):
    """The SageMaker pipeline, from `pipeline.definition.pipeline`; each deployment updates it."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        data: Data,
        training: Training,
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
                image=training.repository.repository_uri_for_tag(image_tag),
                features_queue_url=features_queue.queue_url,
                promote_function_arn=promote.function_arn,
                training_role_arn=training.role.role_arn,
                evaluation_role_arn=training.evaluation_role.role_arn,
                pipeline_name=NAME,
                model_package_group=NAME,
                home_url=data.home_url,
                input_url=f"{data.home_url}/incoming/",
                packed_only=packed_only,
                region=Stack.of(self).region,
                kms_key=data.key.key_arn,
                subnets=tuple(subnet.subnet_id for subnet in training.subnets),
                security_groups=(training.security_group.security_group_id,),
            )
        )
        self.resource = sagemaker.CfnPipeline(
            self,
            "Pipeline",
            pipeline_name=NAME,
            pipeline_display_name="Fraudline",
            pipeline_description="Features, training, evaluation, gate, registration, promotion",
            pipeline_definition={"PipelineDefinitionBody": json.dumps(document)},
            role_arn=role.role_arn,
        )
        self._permissions(data, training, features_queue, promote)
        # SageMaker checks at once that the role may be assumed and may do what the steps ask for.
        self.resource.node.add_dependency(role, training.group)

    def _permissions(
        self, data: Data, training: Training, features_queue: sqs.Queue, promote: lambda_.Function
    ) -> None:
        role, stack = self.role, Stack.of(self)
        jobs = [
            stack.format_arn(service="sagemaker", resource=f"{kind.lower()}-job", resource_name="*") for kind in KINDS
        ]
        verbs = ("Create", "Describe", "Stop")
        allow(
            role,
            [*(f"sagemaker:{verb}{kind}Job" for kind in KINDS for verb in verbs), "sagemaker:AddTags"],
            *jobs,
            why="SageMaker gives the names of a pipeline's jobs.",
        )
        allow(
            role,
            ["sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackage", "sagemaker:AddTags"],
            stack.format_arn(service="sagemaker", resource="model-package-group", resource_name=NAME),
            training.package_arns,
            why="A model package's number is given as it is made.",
        )
        allow(
            role,
            ["iam:PassRole"],
            training.role.role_arn,
            training.evaluation_role.role_arn,
            only={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        )
        _allow_volumes(role, data)
        allow(role, ["sqs:SendMessage", "sqs:GetQueueAttributes"], features_queue.queue_arn)
        allow(role, ["lambda:InvokeFunction"], promote.function_arn)
        data.allow_objects(
            role,
            ["s3:GetObject"],
            "runs/*/evaluation/*",
            "runs/*/train-output/*",
            why="The gate reads the evaluation, and the registry the model, of a run that has yet to begin.",
        )


def _allow_volumes(role: iam.Role, data: Data) -> None:
    """Let a role have jobs whose disks are encrypted with the data's key."""
    only = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    allow(role, ["kms:CreateGrant"], data.key.key_arn, only=only)
    allow(role, ["kms:DescribeKey"], data.key.key_arn)


def pipeline_arn(scope: Construct) -> str:
    """The pipeline's ARN, for parts that must not wait for it to be made."""
    return Stack.of(scope).format_arn(service="sagemaker", resource="pipeline", resource_name=NAME)
