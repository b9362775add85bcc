"""The daily drift check: `pipeline.evaluation.drift`, run from the API's image as a Fargate task.

It writes its metrics as lines of its log (CloudWatch's embedded metric format), so it needs no endpoint of CloudWatch.
"""

from typing import cast

from aws_cdk import CfnElement, Duration, Fn, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from pipeline.infrastructure.home_bucket import HomeBucket
from pipeline.infrastructure.online_table import OnlineTable
from pipeline.infrastructure.parameters import StackParameters
from pipeline.infrastructure.permissions import acknowledge, service_role
from pipeline.infrastructure.scoring_api import USER, ScoringApi


class DriftCheck(Construct):
    """Compares, once a day, what was scored since the promotion with the model's reference. Needs an image."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        home: HomeBucket,
        api: ScoringApi,
        online: OnlineTable,
        repository: ecr.Repository,
        parameters: StackParameters,
    ) -> None:
        super().__init__(scope, name)
        self.role = service_role(self, "Role", "ecs-tasks.amazonaws.com", "Daily drift check")
        task = self._task(home, api, online, repository, parameters.image_tag)
        starter = service_role(self, "StarterRole", "events.amazonaws.com", "Starts the daily drift check")
        rule = self._rule(api, task, starter)
        resource = rule.node.default_child
        assert isinstance(resource, events.CfnRule)
        enabled = Fn.condition_if(parameters.has_image.logical_id, "ENABLED", "DISABLED")
        resource.add_property_override("State", enabled)
        why = "The names of future versions are unknown."
        home.allow_objects(self.role, ["s3:GetObject"], "models/*", why=why)
        home.allow_objects(self.role, ["s3:GetObject"], "contract.toml")
        home.allow_list(self.role, "models/", "contract.toml")
        online.allow(self.role, "Query", "GetItem")

    def _task(
        self, home: HomeBucket, api: ScoringApi, online: OnlineTable, repository: ecr.Repository, image_tag: str
    ) -> ecs.FargateTaskDefinition:
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=512,
            memory_limit_mib=2048,
            task_role=self.role,
            execution_role=api.execution_role,
            volumes=[ecs.Volume(name="scratch")],
        )
        acknowledge(task, "ECS2", "The variables are resource names; none is secret.")
        group = logs.LogGroup(
            self, "Log", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=RemovalPolicy.DESTROY
        )
        container = task.add_container(
            "drift",
            image=ecs.ContainerImage.from_ecr_repository(repository, image_tag),
            command=["python3", "-m", "pipeline.evaluation.drift", "--home", home.url, "--embed"],
            environment={
                "FRAUDLINE_ONLINE_TABLE": online.name,
                "AWS_DEFAULT_REGION": Stack.of(self).region,
            },
            logging=ecs.LogDrivers.aws_logs(stream_prefix="drift", log_group=group),
            readonly_root_filesystem=True,
            user=USER,
        )
        container.add_mount_points(ecs.MountPoint(container_path="/tmp", source_volume="scratch", read_only=False))
        return task

    def _rule(self, api: ScoringApi, task: ecs.FargateTaskDefinition, starter: iam.Role) -> events.Rule:
        rule = events.Rule(
            self, "Daily", schedule=events.Schedule.cron(minute="30", hour="5"), description="Daily drift check"
        )
        rule.add_target(
            targets.EcsTask(
                cluster=api.cluster,
                task_definition=task,
                subnet_selection=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
                security_groups=[api.task_group],
                role=starter,
                max_event_age=Duration.hours(2),
                retry_attempts=3,
            )
        )
        stack = Stack.of(self)
        cluster = stack.get_logical_id(cast(CfnElement, api.cluster.node.default_child))
        acknowledge(
            starter,
            f"IAM5[Resource::arn:aws:ecs:{stack.region}:*:task/<{cluster}>/*]",
            "EventBridge tags the tasks it starts in this cluster, and a task's ID is unknown before it starts.",
        )
        return rule
