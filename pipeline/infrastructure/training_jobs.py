"""What training and evaluation need: the image's repository, the model package group, the roles and network of jobs."""

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from pipeline.infrastructure.home_bucket import HomeBucket
from pipeline.infrastructure.names import PIPELINE
from pipeline.infrastructure.permissions import allow, service_role

UNTAGGED_DAYS = 30  # how long an image without a tag is kept
JOB_KINDS = ("Training", "Processing")


class TrainingJobs(Construct):
    """The image's repository, the model package group, and a role each for training and evaluation.

    Training runs an experiment's own code, so its role may write the output of the run's Train step and nothing that
    a decision depends on. Evaluation's role publishes versions with their verdicts; it writes each file once and
    overwrites none.
    """

    def __init__(self, scope: Construct, name: str, *, home: HomeBucket, network: ec2.IVpc) -> None:
        super().__init__(scope, name)
        stack = Stack.of(self)
        self.repository = ecr.Repository(
            self,
            "Images",
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            encryption=ecr.RepositoryEncryption.KMS,
            encryption_key=home.key,
            # Tagged images stay: the oldest may be the one in use, and a rule sees only when an image was pushed.
            lifecycle_rules=[
                ecr.LifecycleRule(tag_status=ecr.TagStatus.UNTAGGED, max_image_age=Duration.days(UNTAGGED_DAYS))
            ],
            removal_policy=RemovalPolicy.DESTROY,
            empty_on_delete=True,  # images can be built again
        )
        self.group = sagemaker.CfnModelPackageGroup(
            self,
            "Models",
            model_package_group_name=PIPELINE,
            model_package_group_description="Fraud models, their metrics, and whether they may serve",
        )
        self.package_arns = stack.format_arn(
            service="sagemaker", resource="model-package", resource_name=f"{PIPELINE}/*"
        )
        self.subnets = network.isolated_subnets
        self.security_group = ec2.SecurityGroup(
            self, "Jobs", vpc=network, allow_all_outbound=False, description="Training and evaluation"
        )
        # The subnets have a route to S3 only, whose addresses are public.
        self.security_group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "S3, through the gateway endpoint")
        self.role = service_role(self, "JobRole", "sagemaker.amazonaws.com", "Training")
        self.evaluation_role = service_role(self, "EvaluationRole", "sagemaker.amazonaws.com", "Evaluation")
        self._training_permissions(home)
        self._evaluation_permissions(home)
        for role in (self.role, self.evaluation_role):
            self._job_permissions(role, home)
            self._network_permissions(role)

    def _training_permissions(self, home: HomeBucket) -> None:
        why = "The folders of future runs are unknown."
        reads = ("runs/*/train/*", "runs/*/contract/*", "runs/*/code/*")
        home.allow_objects(self.role, ["s3:GetObject"], *reads, why=why)
        writes = ["s3:PutObject", "s3:AbortMultipartUpload"]
        home.allow_objects(self.role, writes, "runs/*/train-output/*", why=why)
        home.allow_list(self.role, "runs/")

    def _evaluation_permissions(self, home: HomeBucket) -> None:
        role = self.evaluation_role
        why = "The folders of future runs are unknown."
        home.allow_objects(role, ["s3:GetObject"], "runs/*", why=why)
        home.allow_objects(role, ["s3:PutObject", "s3:AbortMultipartUpload"], "runs/*/evaluation/*", why=why)
        why = "Evaluation reads the champion's version and publishes the challenger under a new one."
        home.allow_objects(role, ["s3:GetObject", "s3:PutObject"], "models/*", why=why)
        home.deny_overwriting(role, "models/*")
        changes = ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"]
        home.deny_objects(role, changes, "models/latest.json", "models/history/*")
        home.allow_list(role, "runs/", "models/")

    def _job_permissions(self, role: iam.Role, home: HomeBucket) -> None:
        stack = Stack.of(self)
        allow_volumes(role, home)
        allow(role, ["kms:Encrypt"], home.key.key_arn)  # SageMaker's documentation requires it for job outputs
        pull = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
        allow(role, pull, self.repository.repository_arn)
        allow(
            role,
            ["ecr:GetAuthorizationToken"],
            "*",
            why="The token is for the whole registry; the call has no resource-level permissions.",
        )
        groups = [
            stack.format_arn(service="logs", resource=f"log-group:/aws/sagemaker/{kind}Jobs*") for kind in JOB_KINDS
        ]
        allow(
            role,
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
            *groups,
            why="SageMaker names the streams after jobs.",
        )
        allow(
            role,
            ["cloudwatch:PutMetricData"],
            "*",
            why="PutMetricData has no resource-level permissions; the condition limits it to SageMaker's namespaces.",
            only={"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
        )

    def _network_permissions(self, role: iam.Role) -> None:
        """Allow what jobs in our network need: SageMaker creates their network interfaces with the job's role."""
        stack = Stack.of(self)
        subnets = [
            stack.format_arn(service="ec2", resource="subnet", resource_name=subnet.subnet_id)
            for subnet in self.subnets
        ]
        group = stack.format_arn(
            service="ec2", resource="security-group", resource_name=self.security_group.security_group_id
        )
        interfaces = stack.format_arn(service="ec2", resource="network-interface", resource_name="*")
        why = "A network interface's ID is unknown before it is created."
        allow(role, ["ec2:CreateNetworkInterface"], interfaces, group, *subnets, why=why)
        changes = ("CreateNetworkInterfacePermission", "DeleteNetworkInterface", "DeleteNetworkInterfacePermission")
        allow(role, [f"ec2:{action}" for action in changes], interfaces, why=why)
        described = ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
        allow(
            role,
            [f"ec2:Describe{what}" for what in described],
            "*",
            why="EC2's Describe calls have no resource-level permissions.",
        )


def allow_volumes(role: iam.Role, home: HomeBucket) -> None:
    """Allow a role to start jobs whose disks are encrypted with the home's key."""
    only = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    allow(role, ["kms:CreateGrant"], home.key.key_arn, only=only)
    allow(role, ["kms:DescribeKey"], home.key.key_arn)
