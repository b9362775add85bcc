"""The alarms, all of them sent to one topic."""

from dataclasses import dataclass

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from pipeline.evaluation.distance import LARGE_PSI
from pipeline.infrastructure.names import PIPELINE
from pipeline.infrastructure.scoring_api import ScoringApi
from pipeline.infrastructure.triggers import Triggers
from pipeline.metric_names import (
    DRIFT_SERVICE,
    FEATURE_DRIFT,
    MODEL_AGE,
    MODEL_AGE_SERVICE,
    NAMESPACE,
    SCORE_DRIFT,
)

FIVE_MINUTES, DAY = Duration.minutes(5), Duration.days(1)
Metric = cloudwatch.IMetric


@dataclass(frozen=True)
class ServiceAlarm:
    """An alarm on a metric that one of our services writes to its log, and that has the alarm's name.

    statistic: of the five minutes, or of the day for a metric of the drift check
    above: the alarm goes off when the statistic is greater than this
    """

    name: str
    meaning: str
    statistic: str = "Maximum"
    above: float = 0
    service: str = ""


REFUSED = "Transactions are refused or scored without behaviour because the online store does not work"
DRIFTED = "Transactions differ from the serving model's test data; see `fraudline drift`"
SERVICE_ALARMS = (
    ServiceAlarm("ModelRefused", "A promoted model is damaged or does not fit; the previous one keeps serving"),
    ServiceAlarm("StoreFailures", "The online store does not answer", "Sum", above=5),
    ServiceAlarm("StoreRefusals", REFUSED, "Sum", above=5),
    # These four are 1 while the trouble lasts. Without traffic there is no metric, and no alarm.
    ServiceAlarm("StoreLost", "The online store is empty although runs have filled it; the API does not rely on it"),
    ServiceAlarm("RefreshUnfinished", "A run stopped while it refreshed the online store, which is now incomplete"),
    ServiceAlarm("HorizonOld", "Transactions are scored, but no run has read new ones for a long time"),
    ServiceAlarm("LabelsOld", "Transactions are scored, but no labels have arrived for a long time"),
    ServiceAlarm(FEATURE_DRIFT, DRIFTED, above=LARGE_PSI, service=DRIFT_SERVICE),
    ServiceAlarm(SCORE_DRIFT, DRIFTED, above=LARGE_PSI, service=DRIFT_SERVICE),
)
MODEL_AGE_METRIC = cloudwatch.Metric(
    namespace=NAMESPACE,
    metric_name=MODEL_AGE,
    dimensions_map={"service": MODEL_AGE_SERVICE},
    statistic="Maximum",
    period=DAY,
)


class Alarms(Construct):
    """The alarms and their topic. `email` is subscribed to the topic; others can be subscribed later."""

    def __init__(
        self, scope: Construct, name: str, *, key: kms.Key, triggers: Triggers, api: ScoringApi, email: str | None
    ) -> None:
        super().__init__(scope, name)
        self.topic = self._topic(key)
        if email:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))
        for reaction in triggers.reactions:
            dead = reaction.dead.metric_approximate_number_of_messages_visible(period=FIVE_MINUTES)
            meaning = f"{reaction.name} gave up on messages; they are in {reaction.name}Dead"
            self._alarm(f"{reaction.name}Dead", dead, 0, meaning)
        failed = pipeline_metric("ExecutionFailed")
        self._alarm("PipelineFailed", failed, 0, "A pipeline run failed; nothing was promoted")
        promote_errors = triggers.promote.metric_errors(period=FIVE_MINUTES)
        self._alarm("PromoteFailed", promote_errors, 0, "A model that passed the gate could not be promoted")
        for label, metric in zip(("BalancerErrors", "ApiErrors"), error_metrics(api), strict=True):
            self._alarm(label, metric, 5, "The API or its load balancer returns errors (5xx)")
        self._alarm("Latency", latency_metric(api), 0.25, "The slowest 1% of requests take too long", periods=3)
        meaning = (
            "No new model has been promoted for a long time; check that runs happen and their models pass the gate"
        )
        self._alarm("ModelAge", MODEL_AGE_METRIC, 45, meaning)  # runs are monthly, and two weeks are left to notice
        for alarm in SERVICE_ALARMS:
            self._alarm(alarm.name, _logged(alarm), alarm.above, alarm.meaning)

    def _topic(self, key: kms.Key) -> sns.Topic:
        topic = sns.Topic(self, "Topic", master_key=key, enforce_ssl=True)
        source = {"StringEquals": {"aws:SourceAccount": Stack.of(self).account}}
        sender = iam.ServicePrincipal("cloudwatch.amazonaws.com")
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sns:Publish"], principals=[sender], resources=[topic.topic_arn], conditions=source
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                principals=[sender],
                resources=["*"],  # in a key policy: this key
                conditions=source,
            )
        )
        return topic

    def _alarm(self, name: str, metric: Metric, above: float, meaning: str, periods: int = 1) -> None:
        alarm = cloudwatch.Alarm(
            self,
            name,
            metric=metric,
            threshold=above,
            evaluation_periods=periods,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=meaning,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))


def _logged(alarm: ServiceAlarm) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=alarm.name,
        dimensions_map={"service": alarm.service} if alarm.service else None,
        statistic=alarm.statistic,
        period=DAY if alarm.service else FIVE_MINUTES,
    )


def pipeline_metric(name: str) -> cloudwatch.Metric:
    """A metric that SageMaker keeps of the pipeline's executions."""
    return cloudwatch.Metric(
        namespace="AWS/Sagemaker/ModelBuildingPipeline",
        metric_name=name,
        dimensions_map={"PipelineName": PIPELINE},
        statistic="Sum",
        period=FIVE_MINUTES,
    )


def error_metrics(api: ScoringApi) -> tuple[cloudwatch.Metric, cloudwatch.Metric]:
    """The 5xx responses of the load balancer itself, and those of the API."""
    metrics = api.balancer.metrics
    return (
        metrics.http_code_elb(elb.HttpCodeElb.ELB_5XX_COUNT, period=FIVE_MINUTES),
        metrics.http_code_target(elb.HttpCodeTarget.TARGET_5XX_COUNT, period=FIVE_MINUTES),
    )


def latency_metric(api: ScoringApi) -> cloudwatch.Metric:
    """The API's response time in seconds, p99."""
    return api.balancer.metrics.target_response_time(statistic="p99", period=FIVE_MINUTES)
