"""The network: two zones, isolated subnets, endpoints for the AWS services in use, and no route to the internet."""

from collections.abc import Sequence

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_s3 as s3
from constructs import Construct

from pipeline.infrastructure.deployment import CIDR


class Network(Construct):
    """The network of the API and the jobs."""

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
            restrict_default_security_group=False,  # nothing uses it, and emptying it takes a custom resource
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
