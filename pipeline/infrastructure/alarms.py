"""Who is told what: alarms into one topic, and one dashboard."""

from collections.abc import Sequence

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from pipeline.infrastructure.api import Api
from pipeline.infrastructure.data import FeatureJob
from pipeline.infrastructure.training import NAME
from pipeline.infrastructure.triggers import Triggers
from pipeline.metric_names import DRIFT_SERVICE, MODEL_AGE, MODEL_AGE_SERVICE, NAMESPACE

MAX_MODEL_AGE_DAYS = 45  # a month, and half of one to notice
MAX_P99_SECONDS = 0.25
MAX_STORE_FAILURES = 5  # in five minutes
MAX_DRIFT = 0.25  # a population stability index, as pipeline.evaluation.drift calls great
MAX_ERRORS = 5  # answers of 5xx in five minutes
# Of serving.decision.watch, by their metrics: 1 while they stand; no metric, as without traffic, is no trouble.
TROUBLES = {
    "StoreLost": "The online store is empty although runs have filled it; it is not relied on",
    "RefreshUnfinished": "A run ended while it brought the online store up to date, which is half done",
    "HorizonOld": "No run has taken in transactions for long, though transactions are scored",
    "LabelsOld": "No labels have come for long, though transactions are scored",
}
FIVE_MINUTES = Duration.minutes(5)
Metric = cloudwatch.IMetric


class Alarms(Construct):
    """The alarms, all into `topic`, and the dashboard. `email`: who is written to; more can subscribe."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        key: kms.Key,
        triggers: Triggers,
        api: Api,
        job: FeatureJob,
        email: str | None,
    ) -> None:
        super().__init__(scope, name)
        self.topic = self._topic(key)
        if email:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))
        waiting = []
        for reaction in triggers.reactions:
            label = reaction.function.node.id
            dead = reaction.dead.metric_approximate_number_of_messages_visible(period=FIVE_MINUTES)
            self._alarm(f"{label}Dead", dead, 0, f"Messages for {label} were given up; they lie in {label}Dead")
            waiting.append(reaction.queue.metric_approximate_number_of_messages_visible(label=label))
        failed = self._of_pipeline("ExecutionFailed")
        self._alarm("PipelineFailed", failed, 0, "A pipeline run failed; nothing was promoted")
        promote_errors = triggers.promote.metric_errors(period=FIVE_MINUTES)
        self._alarm("PromoteFailed", promote_errors, 0, "A model that passed the gate could not be promoted")
        errors = [
            api.balancer.metrics.http_code_elb(elb.HttpCodeElb.ELB_5XX_COUNT, period=FIVE_MINUTES),
            api.balancer.metrics.http_code_target(elb.HttpCodeTarget.TARGET_5XX_COUNT, period=FIVE_MINUTES),
        ]
        for label, metric in zip(("BalancerErrors", "ApiErrors"), errors, strict=True):
            self._alarm(label, metric, MAX_ERRORS, "The API answers with errors of its own (5xx)")
        p99 = api.balancer.metrics.target_response_time(statistic="p99", period=FIVE_MINUTES)
        self._alarm("Latency", p99, MAX_P99_SECONDS, "One request in a hundred takes too long", times=3)
        age = cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=MODEL_AGE,
            dimensions_map={"service": MODEL_AGE_SERVICE},
            statistic="Maximum",
            period=Duration.days(1),
        )
        self._alarm("ModelAge", age, MAX_MODEL_AGE_DAYS, "No new model has served for long: do runs happen, and pass?")
        self._of_service()
        self._dashboard(triggers, api, job, waiting, errors, p99, age)

    def _of_service(self) -> None:
        """What the API and the daily look at drift say of themselves, as lines in their logs."""

        def metric(name: str, statistic: str, service: str = "") -> cloudwatch.Metric:
            return cloudwatch.Metric(
                namespace=NAMESPACE,
                metric_name=name,
                dimensions_map={"service": service} if service else None,
                statistic=statistic,
                period=Duration.days(1) if service else FIVE_MINUTES,
            )

        refused = "A promoted model is damaged or does not fit; the one before goes on serving"
        self._alarm("ModelRefused", metric("ModelRefused", "Maximum"), 0, refused)
        silent = "The online store does not answer: transactions are refused, or scored without behaviour"
        self._alarm("StoreFailures", metric("StoreFailures", "Sum"), MAX_STORE_FAILURES, silent)
        useless = "Transactions are refused, or scored without behaviour, because of the online store"
        self._alarm("StoreRefusals", metric("StoreRefusals", "Sum"), MAX_STORE_FAILURES, useless)
        for name, meaning in TROUBLES.items():
            self._alarm(name, metric(name, "Maximum"), 0, meaning)
        moved = "Transactions are not those that the serving model was tested on: look at `fraudline drift`"
        for name in ("FeatureDrift", "ScoreDrift"):
            self._alarm(name, metric(name, "Maximum", DRIFT_SERVICE), MAX_DRIFT, moved)

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
                resources=["*"],  # in a key's policy: this key
                conditions=source,
            )
        )
        return topic

    def _alarm(self, name: str, metric: Metric, above: float, meaning: str, times: int = 1) -> None:
        alarm = cloudwatch.Alarm(
            self,
            name,
            metric=metric,
            threshold=above,
            evaluation_periods=times,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=meaning,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))

    def _of_pipeline(self, metric: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/Sagemaker/ModelBuildingPipeline",
            metric_name=metric,
            dimensions_map={"PipelineName": NAME},
            statistic="Sum",
            period=FIVE_MINUTES,
        )

    def _dashboard(
        self,
        triggers: Triggers,
        api: Api,
        job: FeatureJob,
        waiting: Sequence[Metric],
        errors: Sequence[Metric],
        p99: Metric,
        age: Metric,
    ) -> None:
        runs = [self._of_pipeline(f"Execution{kind}") for kind in ("Started", "Succeeded", "Failed")]
        requests = api.balancer.metrics.request_count(period=FIVE_MINUTES)
        dead = [reaction.dead.metric_approximate_number_of_messages_visible() for reaction in triggers.reactions]
        cpu = api.service.metric_cpu_utilization()
        memory = api.service.metric_memory_utilization()
        workers = cloudwatch.Metric(
            namespace="Glue",
            metric_name="glue.driver.ExecutorAllocationManager.executors.numberAllExecutors",
            dimensions_map={"JobName": job.name, "JobRunId": "ALL", "Type": "gauge"},
            statistic="Maximum",
        )

        def graph(title: str, left: Sequence[Metric], right: Sequence[Metric] = ()) -> cloudwatch.GraphWidget:
            return cloudwatch.GraphWidget(title=title, left=list(left), right=list(right), width=8)

        cloudwatch.Dashboard(
            self,
            "Dashboard",
            widgets=[
                [graph("Requests", [requests], errors), graph("Latency, p99", [p99]), graph("Tasks", [cpu, memory])],
                [graph("Runs", runs), graph("Waiting events", waiting, dead), graph("Model's age in days", [age])],
                [graph("Workers of the feature job", [workers])],
            ],
        )
