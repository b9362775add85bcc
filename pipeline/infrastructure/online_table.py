"""The table of the online store in DynamoDB, and what its users are allowed to do with it."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from pipeline.infrastructure.permissions import allow

INDEX = "latest"  # decisions in the order in which they were recorded (see `processing.store.dynamo.layout`)
READS = ("GetItem", "BatchGetItem", "Query")
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "ConditionCheckItem")


class OnlineTable(Construct):
    """The online store: items keyed by `pk` and `sk`. DynamoDB deletes an item after the time in `expires`."""

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
            # Decisions and investigators' reports are stored nowhere else.
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        self.table.add_global_secondary_index(
            index_name=INDEX,
            partition_key=dynamodb.Attribute(name="feed", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="recorded", type=dynamodb.AttributeType.NUMBER),
        )
        self.name = self.table.table_name

    def allow(self, role: iam.Role, *actions: str) -> None:
        """Allow a role these DynamoDB actions on the table, and to query decisions by time."""
        allow(role, [f"dynamodb:{action}" for action in actions], self.table.table_arn)
        allow(role, ["dynamodb:Query"], f"{self.table.table_arn}/index/{INDEX}")
