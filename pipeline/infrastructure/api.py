"""Serving's part of the stack: the network without a way out, the online store, the API on Fargate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import Duration, RemovalPolicy, SecretValue, Stack
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secrets
from constructs import Construct

from pipeline.infrastructure.data import ITEM_ACTIONS, LATEST, Data, acknowledge, allow, service_role
from pipeline.infrastructure.deployment import CIDR

PORT = 8080
NOBODY = '{"keys": []}'  # a keys document that lets no caller in
IDLE = Duration.seconds(60)  # of the load balancer's connections; the server must keep them longer
USER = "10001"  # the image's own; no root
MAX_TASKS = 10
REQUESTS_PER_MINUTE = 12_000  # that one task is to take before another is added


@dataclass(frozen=True)
class Load:
    """What a deployment may be told later, as tokens.

    image_tag: of the image; tasks: the fewest of the API; desired: the tasks that the service is set to, or no value
    """

    image_tag: str
    tasks: int
    desired: Any


class Network(Construct):
    """Two zones, isolated subnets, endpoints for the services in use, and nothing beyond."""

    def __init__(self, scope: Construct, name: str, *, zones: Sequence[str], logs_bucket: s3.IBucket) -> None:
        super().__init__(scope, name)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(CIDR),
            availability_zones=list(zones),
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(name="isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=22)
            ],
            restrict_default_security_group=False,  # nothing is in it, and emptying it takes a custom resource
        )
        self.vpc.add_flow_log("Flows", destination=ec2.FlowLogDestination.to_s3(logs_bucket, "vpc/"))
        for service in (ec2.GatewayVpcEndpointAwsService.S3, ec2.GatewayVpcEndpointAwsService.DYNAMODB):
            self.vpc.add_gateway_endpoint(service.name.rsplit(".")[-1].capitalize(), service=service)
        self.endpoints = ec2.SecurityGroup(
            self, "Endpoints", vpc=self.vpc, allow_all_outbound=False, description="AWS services, from inside"
        )
        services = ec2.InterfaceVpcEndpointAwsService
        for label, endpoint in (
            ("Registry", services.ECR),
            ("Images", services.ECR_DOCKER),
            ("Logs", services.CLOUDWATCH_LOGS),
            ("Secrets", services.SECRETS_MANAGER),
        ):
            self.vpc.add_interface_endpoint(
                label, service=endpoint, security_groups=[self.endpoints], open=False, private_dns_enabled=True
            )


class OnlineTable(Construct):
    """The online store: items by `pk` and `sk`, those with a time in `expires` dropped after it.

    The index `latest` gives decisions in the order in which they were recorded (see `processing.store.dynamo.layout`).
    """

    def __init__(self, scope: Construct, name: str) -> None:
        super().__init__(scope, name)
        self.table = dynamodb.Table(
            self,
            "Table",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            time_to_live_attribute="expires",
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            # Decisions, and what investigators reported, are nowhere else.
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        self.table.add_global_secondary_index(
            index_name=LATEST,
            partition_key=dynamodb.Attribute(name="feed", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="recorded", type=dynamodb.AttributeType.NUMBER),
        )


class Api(Construct):
    """The scoring API: Fargate tasks behind an internal load balancer. `url` is where it answers."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        data: Data,
        network: Network,
        table: dynamodb.Table,
        repository: ecr.Repository,
        load: Load,
        certificate_arn: str | None,
        clients: Sequence[str],
        packed_only: bool,
    ) -> None:
        super().__init__(scope, name)
        vpc = network.vpc
        self.keys = secrets.Secret(
            self,
            "Keys",
            description="The digests of the API's keys; `fraudline keys add --secret ARN` adds one",
            secret_string_value=SecretValue.unsafe_plain_text(NOBODY),  # there is no secret in it yet
        )
        acknowledge(
            self.keys,
            "SMG4",
            "A key is shared with its callers: changed by a clock, it would lock them out. "
            "Keys are rotated by adding one, moving callers over, and removing the old one.",
        )
        self.task_role = service_role(self, "TaskRole", "ecs-tasks.amazonaws.com", "The API while it runs")
        self.log_group = logs.LogGroup(
            self, "Log", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=RemovalPolicy.DESTROY
        )
        self.task = self._task(data, table, repository, load.image_tag, packed_only)
        self.cluster = ecs.Cluster(self, "Cluster", vpc=vpc, container_insights_v2=ecs.ContainerInsights.ENABLED)
        group = ec2.SecurityGroup(self, "Tasks", vpc=vpc, allow_all_outbound=False, description="Tasks of the API")
        self.tasks_group = group
        # Isolated subnets route to S3 and DynamoDB alone; their addresses are public ones.
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services, through endpoints")
        network.endpoints.add_ingress_rule(group, ec2.Port.tcp(443), "From tasks of the API")
        self.service = ecs.FargateService(
            self,
            "Service",
            cluster=self.cluster,
            task_definition=self.task,
            desired_count=load.tasks,
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
        # A number in the template would undo scaling at each deployment.
        raw = self.service.node.default_child
        assert isinstance(raw, ecs.CfnService)
        raw.add_property_override("DesiredCount", load.desired)
        self._front(data, network, certificate_arn, clients)
        self._scaling(load.tasks)
        self._permissions(data, table)

    def _task(
        self, data: Data, table: dynamodb.Table, repository: ecr.Repository, tag: str, packed_only: bool
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
        acknowledge(task, "ECS2", "They are names of resources and a port. The one secret comes from Secrets Manager.")
        acknowledge(
            self.execution_role, "IAM5[Resource::*]", "A registry's token is asked for without naming a repository."
        )
        container = task.add_container(
            "api",
            image=ecs.ContainerImage.from_ecr_repository(repository, tag),
            environment={
                "FRAUDLINE_EMBEDDED_METRICS_SECONDS": "60",
                "FRAUDLINE_HOME": data.home_url,
                "FRAUDLINE_HOST": "0.0.0.0",
                "FRAUDLINE_MODELS": "packed" if packed_only else "any",
                "FRAUDLINE_ONLINE_TABLE": table.table_name,
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
            stop_timeout=Duration.seconds(30),  # the server lets requests end for 20
        )
        container.add_mount_points(ecs.MountPoint(container_path="/tmp", source_volume="scratch", read_only=False))
        return task

    def _front(self, data: Data, network: Network, certificate_arn: str | None, clients: Sequence[str]) -> None:
        secure = certificate_arn is not None
        port, scheme = (443, "https") if secure else (80, "http")
        front = ec2.SecurityGroup(
            self, "Front", vpc=network.vpc, allow_all_outbound=False, description="Load balancer of the API"
        )
        for cidr in clients:
            front.add_ingress_rule(ec2.Peer.ipv4(cidr), ec2.Port.tcp(port), "Callers")
        self.balancer = elb.ApplicationLoadBalancer(
            self,
            "Balancer",
            vpc=network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            internet_facing=False,
            security_group=front,
            drop_invalid_header_fields=True,
            idle_timeout=IDLE,
        )
        self.balancer.log_access_logs(data.logs, "alb")
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

    def _scaling(self, tasks: int) -> None:
        scaling = self.service.auto_scale_task_count(min_capacity=tasks, max_capacity=MAX_TASKS)
        scaling.scale_on_cpu_utilization("Cpu", target_utilization_percent=60)
        scaling.scale_on_request_count("Requests", requests_per_target=REQUESTS_PER_MINUTE, target_group=self.targets)

    def _permissions(self, data: Data, table: dynamodb.Table) -> None:
        role = self.task_role
        why = "A version's name is known only once it was published."
        data.allow_objects(role, ["s3:GetObject"], "models/*", why=why)
        data.allow_objects(role, ["s3:GetObject"], "contract.toml")
        data.allow_list(role, "models/", "contract.toml")
        allow(role, [f"dynamodb:{action}" for action in ITEM_ACTIONS], table.table_arn)
        allow(role, ["dynamodb:Query"], f"{table.table_arn}/index/{LATEST}")
