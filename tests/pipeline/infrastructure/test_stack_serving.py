"""The stack's template: the API's tasks, its load balancer, the network."""

import re

import pytest
from stack_template import (
    PREFIX,
    ZONES,
    Template,
    of_type,
    the,
    words,
)

pytestmark = pytest.mark.cloud


def test_the_service_runs_two_tasks_in_two_zones_and_rolls_back_failed_deployments(template: Template) -> None:
    service = the(template, "AWS::ECS::Service")
    assert template["Parameters"]["ServingTasks"]["Default"] == 2
    start_count = {"Fn::If": ["HasImage", {"Ref": "StartTasks"}, 0]}
    assert service["DesiredCount"] == {"Fn::If": ["LeaveTasks", {"Ref": "AWS::NoValue"}, start_count]}
    assert template["Parameters"]["StartTasks"]["Default"] == 0
    assert service["LaunchType"] == "FARGATE"
    assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    network = service["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "DISABLED"
    zones = {one["AvailabilityZone"] for one in of_type(template, "AWS::EC2::Subnet").values()}
    assert zones == set(ZONES)
    assert len(network["Subnets"]) == 2


def test_the_container_is_read_only_logged_and_not_root(template: Template) -> None:
    [container] = the(template, "AWS::ECS::TaskDefinition", "Api")["ContainerDefinitions"]
    assert container["ReadonlyRootFilesystem"] is True
    assert container["User"] == "10001"
    assert container["LogConfiguration"]["LogDriver"] == "awslogs"
    assert [secret["Name"] for secret in container["Secrets"]] == ["FRAUDLINE_API_KEYS"]
    names = {variable["Name"] for variable in container["Environment"]}
    assert names == {
        "AWS_DEFAULT_REGION",
        "FRAUDLINE_EMBEDDED_METRICS_SECONDS",
        "FRAUDLINE_HOME",
        "FRAUDLINE_HOST",
        "FRAUDLINE_MODELS",
        "FRAUDLINE_ONLINE_TABLE",
        "FRAUDLINE_PORT",
    }


def test_the_server_keeps_idle_connections_longer_than_the_load_balancer(template: Template) -> None:
    from serving.settings import Settings

    balancer = the(template, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    attributes = {one["Key"]: one["Value"] for one in balancer["LoadBalancerAttributes"]}
    [container] = the(template, "AWS::ECS::TaskDefinition", "Api")["ContainerDefinitions"]
    assert "FRAUDLINE_IDLE_SECONDS" not in {variable["Name"] for variable in container["Environment"]}
    # Otherwise the balancer may send a request on a connection that is just closing, which gives a 502.
    assert Settings.model_fields["idle_seconds"].default > float(attributes["idle_timeout.timeout_seconds"])


def test_the_service_scales_with_cpu_and_requests(template: Template) -> None:
    target = the(template, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target["MinCapacity"], target["MaxCapacity"]) == ({"Fn::If": ["HasImage", {"Ref": "ServingTasks"}, 0]}, 10)
    metrics = {
        policy["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]["PredefinedMetricType"]
        for policy in of_type(template, "AWS::ApplicationAutoScaling::ScalingPolicy").values()
    }
    assert metrics == {"ECSServiceAverageCPUUtilization", "ALBRequestCountPerTarget"}


def test_the_load_balancer_is_internal_and_uses_tls_if_there_is_a_certificate(
    template: Template, emulated: Template
) -> None:
    for one in (template, emulated):
        assert the(one, "AWS::ElasticLoadBalancingV2::LoadBalancer")["Scheme"] == "internal"
        assert the(one, "AWS::ElasticLoadBalancingV2::TargetGroup")["HealthCheckPath"] == "/health/ready"
    plain, secure = (the(one, "AWS::ElasticLoadBalancingV2::Listener") for one in (template, emulated))
    assert (plain["Port"], plain["Protocol"]) == (80, "HTTP")
    assert (secure["Port"], secure["Protocol"]) == (443, "HTTPS")
    assert secure["Certificates"] == [{"CertificateArn": f"arn:aws:acm:{PREFIX}:certificate/1"}]
    assert "TLS13" in secure["SslPolicy"]


def test_the_network_has_no_way_out(template: Template) -> None:
    kinds = {resource["Type"] for resource in template["Resources"].values()}
    assert not kinds & {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route", "AWS::EC2::EIP"}
    endpoints = {words(one["ServiceName"]) for one in of_type(template, "AWS::EC2::VPCEndpoint").values()}
    services = {re.sub(r"com\.amazonaws\.(eu-west-1|<AWS::Region>)\.", "", name) for name in endpoints}
    assert services == {"s3", "dynamodb", "ecr.api", "ecr.dkr", "logs", "secretsmanager"}
    for group in of_type(template, "AWS::EC2::SecurityGroup").values():
        assert all(one["CidrIp"] != "0.0.0.0/0" for one in group.get("SecurityGroupIngress", []))
    assert of_type(template, "AWS::EC2::FlowLog")
