"""The daily look at drift: the image's own `pipeline.evaluation.drift` as a Fargate task, for two alarms to watch.

Its metrics are lines in its log (CloudWatch's embedded metric format), so that it needs no way to CloudWatch itself.
"""

from typing import cast

from aws_cdk import CfnCondition, CfnElement, Duration, Fn, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_logs as logs
from constructs import Construct

from pipeline.infrastructure.api import USER, Api
from pipeline.infrastructure.data import LATEST, Data, acknowledge, allow, service_role


class DriftWatch(Construct):
    """Every day, once there is an image: what was scored since the promotion, against the model's reference."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        data: Data,
        api: Api,
        table: dynamodb.Table,
        repository: ecr.Repository,
        image_tag: str,
        has_image: CfnCondition,
    ) -> None:
        super().__init__(scope, name)
        self.role = service_role(self, "Role", "ecs-tasks.amazonaws.com", "The daily look at drift")
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=512,
            memory_limit_mib=2048,
            task_role=self.role,
            execution_role=api.execution_role,
            volumes=[ecs.Volume(name="scratch")],
        )
        acknowledge(task, "ECS2", "They are names of resources; nothing in them is secret.")
        group = logs.LogGroup(
            self, "Log", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=RemovalPolicy.DESTROY
        )
        container = task.add_container(
            "drift",
            image=ecs.ContainerImage.from_ecr_repository(repository, image_tag),
            command=["python3", "-m", "pipeline.evaluation.drift", "--home", data.home_url, "--embed"],
            environment={
                "FRAUDLINE_ONLINE_TABLE": table.table_name,
                "AWS_DEFAULT_REGION": Stack.of(self).region,
            },
            logging=ecs.LogDrivers.aws_logs(stream_prefix="drift", log_group=group),
            readonly_root_filesystem=True,
            user=USER,
        )
        container.add_mount_points(ecs.MountPoint(container_path="/tmp", source_volume="scratch", read_only=False))
        starter = service_role(self, "StarterRole", "events.amazonaws.com", "Starts the daily look at drift")
        rule = events.Rule(
            self, "Daily", schedule=events.Schedule.cron(minute="30", hour="5"), description="A look at drift every day"
        )
        rule.add_target(
            targets.EcsTask(
                cluster=api.cluster,
                task_definition=task,
                subnet_selection=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
                security_groups=[api.tasks_group],
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
            "EventBridge tags the tasks that it starts in this cluster; a task has no name before it is started.",
        )
        raw = rule.node.default_child
        assert isinstance(raw, events.CfnRule)
        raw.add_property_override("State", Fn.condition_if(has_image.logical_id, "ENABLED", "DISABLED"))
        why = "A version's name is known only once it was published."
        data.allow_objects(self.role, ["s3:GetObject"], "models/*", why=why)
        data.allow_objects(self.role, ["s3:GetObject"], "contract.toml")
        data.allow_list(self.role, "models/", "contract.toml")
        allow(self.role, ["dynamodb:Query", "dynamodb:GetItem"], table.table_arn)
        allow(self.role, ["dynamodb:Query"], f"{table.table_arn}/index/{LATEST}")
