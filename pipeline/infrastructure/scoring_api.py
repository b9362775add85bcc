"""The scoring API: Fargate tasks behind an internal load balancer."""

from collections.abc import Sequence

from aws_cdk import Duration, RemovalPolicy, SecretValue, Stack
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secrets
from constructs import Construct

from pipeline.infrastructure.home_bucket import HomeBucket
from pipeline.infrastructure.network import Network
from pipeline.infrastructure.online_table import READS, WRITES, OnlineTable
from pipeline.infrastructure.parameters import MAX_TASKS, StackParameters
from pipeline.infrastructure.permissions import acknowledge, service_role

PORT = 8080
NO_KEYS = '{"keys": []}'  # a keys document that lets no caller in
IDLE_TIMEOUT = Duration.seconds(60)  # of the load balancer; the server must keep idle connections longer
USER = "10001"  # the image's own user, not root
REQUESTS_PER_MINUTE = 12_000  # per task; beyond it another task is started


class ScoringApi(Construct):
    """The API. `url` is its address."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        home: HomeBucket,
        network: Network,
        online: OnlineTable,
        repository: ecr.Repository,
        parameters: StackParameters,
        certificate_arn: str | None,
        clients: Sequence[str],
        packed_only: bool,
    ) -> None:
        super().__init__(scope, name)
        self.keys = secrets.Secret(
            self,
            "Keys",
            description="Digests of the API keys; `fraudline keys add --secret ARN` adds one",
            secret_string_value=SecretValue.unsafe_plain_text(NO_KEYS),  # there is no secret in it yet
        )
        acknowledge(
            self.keys,
            "SMG4",
            "Keys are shared with callers, so automatic rotation would lock them out. "
            "To rotate a key, add a new one, switch callers over, and revoke the old one.",
        )
        self.task_role = service_role(self, "TaskRole", "ecs-tasks.amazonaws.com", "Running API tasks")
        self.log_group = logs.LogGroup(
            self, "Log", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=RemovalPolicy.DESTROY
        )
        self.task = self._task(home, online, repository, parameters.image_tag, packed_only)
        self._service(network, parameters)
        self._load_balancer(home, network, certificate_arn, clients)
        self._scaling(parameters.min_tasks)
        why = "The names of future versions are unknown."
        home.allow_objects(self.task_role, ["s3:GetObject"], "models/*", why=why)
        home.allow_objects(self.task_role, ["s3:GetObject"], "contract.toml")
        why = "Earlier contracts, named by the time of their replacement, say which columns requests may still have."
        home.allow_objects(self.task_role, ["s3:GetObject"], "contracts/*", why=why)
        home.allow_list(self.task_role, "models/", "contract.toml", "contracts/")
        online.allow(self.task_role, *READS, *WRITES)

    def _task(
        self, home: HomeBucket, online: OnlineTable, repository: ecr.Repository, tag: str, packed_only: bool
    ) -> ecs.FargateTaskDefinition:
        self.execution_role = service_role(self, "ExecutionRole", "ecs-tasks.amazonaws.com", "Starts the API's tasks")
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=1024,
            memory_limit_mib=2048,
            task_role=self.task_role,
            execution_role=self.execution_role,
            volumes=[ecs.Volume(name="scratch")],
        )
        acknowledge(
            task, "ECS2", "The variables are resource names and a port; the only secret comes from Secrets Manager."
        )
        acknowledge(
            self.execution_role,
            "IAM5[Resource::*]",
            "ecr:GetAuthorizationToken does not support resource-level permissions.",
        )
        container = task.add_container(
            "api",
            image=ecs.ContainerImage.from_ecr_repository(repository, tag),
            environment={
                "FRAUDLINE_EMBEDDED_METRICS_SECONDS": "60",
                "FRAUDLINE_HOME": home.url,
                "FRAUDLINE_HOST": "0.0.0.0",
                "FRAUDLINE_MODELS": "packed" if packed_only else "any",
                "FRAUDLINE_ONLINE_TABLE": online.name,
                "FRAUDLINE_PORT": str(PORT),
                "AWS_DEFAULT_REGION": Stack.of(self).region,
            },
            secrets={"FRAUDLINE_API_KEYS": ecs.Secret.from_secrets_manager(self.keys)},
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix="api", log_group=self.log_group, mode=ecs.AwsLogDriverMode.NON_BLOCKING
            ),
            port_mappings=[ecs.PortMapping(container_port=PORT)],
            readonly_root_filesystem=True,
            user=USER,
            stop_timeout=Duration.seconds(30),  # the server gives open requests 20 seconds
        )
        container.add_mount_points(ecs.MountPoint(container_path="/tmp", source_volume="scratch", read_only=False))
        return task

    def _service(self, network: Network, parameters: StackParameters) -> None:
        vpc = network.vpc
        self.cluster = ecs.Cluster(self, "Cluster", vpc=vpc, container_insights_v2=ecs.ContainerInsights.ENABLED)
        group = ec2.SecurityGroup(self, "Tasks", vpc=vpc, allow_all_outbound=False, description="Tasks of the API")
        self.task_group = group
        # Isolated subnets have routes to S3 and DynamoDB only, whose addresses are public.
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services, through endpoints")
        network.endpoints.add_ingress_rule(group, ec2.Port.tcp(443), "From tasks of the API")
        self.service = ecs.FargateService(
            self,
            "Service",
            cluster=self.cluster,
            task_definition=self.task,
            desired_count=parameters.min_tasks,
            security_groups=[group],
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            assign_public_ip=False,
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
            min_healthy_percent=100,
            max_healthy_percent=200,
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.ENABLED,
            health_check_grace_period=Duration.seconds(60),
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )
        # A fixed number in the template would undo scaling at each deployment.
        resource = self.service.node.default_child
        assert isinstance(resource, ecs.CfnService)
        resource.add_property_override("DesiredCount", parameters.desired_tasks)

    def _load_balancer(
        self, home: HomeBucket, network: Network, certificate_arn: str | None, clients: Sequence[str]
    ) -> None:
        secure = certificate_arn is not None
        port, scheme = (443, "https") if secure else (80, "http")
        group = ec2.SecurityGroup(
            self, "Front", vpc=network.vpc, allow_all_outbound=False, description="Load balancer of the API"
        )
        for cidr in clients:
            group.add_ingress_rule(ec2.Peer.ipv4(cidr), ec2.Port.tcp(port), "Callers")
        self.balancer = elb.ApplicationLoadBalancer(
            self,
            "Balancer",
            vpc=network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            internet_facing=False,
            security_group=group,
            drop_invalid_header_fields=True,
            idle_timeout=IDLE_TIMEOUT,
        )
        self.balancer.log_access_logs(home.logs, "alb")
        listener = self.balancer.add_listener(
            "Listener",
            port=port,
            open=False,
            protocol=elb.ApplicationProtocol.HTTPS if secure else elb.ApplicationProtocol.HTTP,
            certificates=[acm.Certificate.from_certificate_arn(self, "Certificate", certificate_arn)]
            if certificate_arn
            else None,
            ssl_policy=elb.SslPolicy.RECOMMENDED_TLS if secure else None,
        )
        self.targets = listener.add_targets(
            "Api",
            port=PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            targets=[self.service],
            deregistration_delay=Duration.seconds(30),
            health_check=elb.HealthCheck(
                path="/health/ready",
                interval=Duration.seconds(15),
                timeout=Duration.seconds(5),
                healthy_threshold_count=2,
                unhealthy_threshold_count=3,
            ),
        )
        self.url = f"{scheme}://{self.balancer.load_balancer_dns_name}"

    def _scaling(self, min_tasks: int) -> None:
        scaling = self.service.auto_scale_task_count(min_capacity=min_tasks, max_capacity=MAX_TASKS)
        scaling.scale_on_cpu_utilization("Cpu", target_utilization_percent=60)
        scaling.scale_on_request_count("Requests", requests_per_target=REQUESTS_PER_MINUTE, target_group=self.targets)
