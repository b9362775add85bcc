"""The bucket that holds the home, its key, the bucket of logs, and the trail of who read which object."""

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from pipeline.infrastructure.permissions import acknowledge, allow


class HomeBucket(Construct):
    """The home in S3 and what protects it. `url` is the home's address."""

    def __init__(self, scope: Construct, name: str) -> None:
        super().__init__(scope, name)
        # Whatever holds data outlives the stack. The exception is a first deployment that is rolled back: its resources
        # are still empty, and leaving them would block the next attempt.
        self.key = kms.Key(
            self,
            "Key",
            enable_key_rotation=True,
            description="Fraudline's data at rest",
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        self.logs = s3.Bucket(
            self,
            "Logs",
            encryption=s3.BucketEncryption.S3_MANAGED,  # load balancers cannot write to KMS-encrypted buckets
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(400))],
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        acknowledge(
            self.logs, "S1", "This bucket receives the access logs; logging access to it would create an endless loop."
        )
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            versioned=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            server_access_logs_bucket=self.logs,
            server_access_logs_prefix="s3/",
            lifecycle_rules=_lifecycle(),
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        # The L2 construct's own flag would add a Lambda function with rights on every bucket to do this.
        resource = self.bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)
        resource.add_property_override("NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True)
        self.url = f"s3://{self.bucket.bucket_name}"
        trail = cloudtrail.Trail(
            self,
            "Trail",
            bucket=self.logs,
            s3_key_prefix="cloudtrail",
            management_events=cloudtrail.ReadWriteType.NONE,
            is_multi_region_trail=False,
            include_global_service_events=False,
            enable_file_validation=True,
        )
        trail.add_s3_event_selector([cloudtrail.S3EventSelector(bucket=self.bucket)], include_management_events=False)

    def allow_objects(self, role: iam.Role, actions: Sequence[str], *keys: str, why: str = "") -> None:
        """Allow a role S3 actions on the objects with these keys, which may end in `*`, and the use of the KMS key."""
        allow(role, actions, *(self.bucket.arn_for_objects(key) for key in keys), why=why)
        writes = any(action in ("s3:PutObject", "s3:AbortMultipartUpload") for action in actions)
        allow(role, ["kms:Decrypt", "kms:GenerateDataKey"] if writes else ["kms:Decrypt"], self.key.key_arn)

    def allow_list(self, role: iam.Role, *prefixes: str) -> None:
        """Allow a role to list the objects under these prefixes, and to learn that an object does not exist."""
        # S3 answers 404 only to those who may list the bucket; to others it answers 403. That request has no prefix.
        only = {"StringLikeIfExists": {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}}
        allow(role, ["s3:ListBucket"], self.bucket.bucket_arn, only=only)

    def deny_objects(
        self, role: iam.Role, actions: Sequence[str], *keys: str, only: Mapping[str, Any] | None = None
    ) -> None:
        """Deny a role these actions on the objects with these keys, whatever else it is allowed."""
        resources = [self.bucket.arn_for_objects(key) for key in keys]
        role.add_to_policy(
            iam.PolicyStatement(effect=iam.Effect.DENY, actions=list(actions), resources=resources, conditions=only)
        )

    def deny_overwriting(self, role: iam.Role, *keys: str) -> None:
        """Deny a role to overwrite objects: each write must be conditional on the object not existing.

        A multipart upload carries that condition only when it is completed, so it is denied when it is created.
        """
        self.deny_objects(role, ["s3:PutObject"], *keys, only={"Null": {"s3:if-none-match": "true"}})


def _lifecycle() -> list[s3.LifecycleRule]:
    infrequent = s3.Transition(storage_class=s3.StorageClass.INFREQUENT_ACCESS, transition_after=Duration.days(30))
    glacier = s3.Transition(storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL, transition_after=Duration.days(90))
    return [
        s3.LifecycleRule(
            id="old-versions",
            noncurrent_version_expiration=Duration.days(90),
            abort_incomplete_multipart_upload_after=Duration.days(7),
            expired_object_delete_marker=True,
        ),
        s3.LifecycleRule(id="archive", prefix="archive/", transitions=[infrequent, glacier]),
        s3.LifecycleRule(id="runs", prefix="runs/", transitions=[infrequent], expiration=Duration.days(400)),
    ]
