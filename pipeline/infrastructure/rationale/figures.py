"""The figures of the rationale: every number in it, from the stack's template or the bill."""

import json
import re
from collections.abc import Iterable, Mapping

from pipeline.infrastructure.cost.bill import KINDS, Bill, monthly_bill
from pipeline.infrastructure.cost.volumes import Volumes
from pipeline.infrastructure.template import (
    Template,
    as_text,
    count,
    only_resource,
    pipeline_definition,
    resources,
)

GROWN = Volumes(transactions=30_000_000, runs=4, tasks=3, data_gb=500)
LAMBDA_SECONDS = 0.1  # assumed for a decision in a Lambda function with a task's memory, with two calls to DynamoDB
DPU_AS_INSTANCE = "ml_m5_xlarge"  # it has the processors and memory of a Glue DPU


def figures_of(template: Template) -> dict[str, str]:
    """The figures by name. Some are whole tables, in Markdown."""
    bill, grown = monthly_bill(Volumes()), monthly_bill(GROWN)
    return {**_data(template), **_training(template), **_api(template), **_triggers(template), **_costs(bill, grown)}


def _data(template: Template) -> dict[str, str]:
    bucket = only_resource(template, "AWS::S3::Bucket", "DataBucket")
    logs = only_resource(template, "AWS::S3::Bucket", "DataLogs")
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    infrequent, glacier = (one["TransitionInDays"] for one in rules["archive"]["Transitions"])
    endpoints = list(resources(template, "AWS::EC2::VPCEndpoint"))
    interfaces = [as_text(one["ServiceName"]) for one in endpoints if one["VpcEndpointType"] == "Interface"]
    return {
        "old_version_days": str(rules["old-versions"]["NoncurrentVersionExpiration"]["NoncurrentDays"]),
        "archive_infrequent_days": str(infrequent),
        "archive_glacier_days": str(glacier),
        "run_days": str(rules["runs"]["ExpirationInDays"]),
        "access_log_days": str(logs["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"]),
        "interface_endpoints": str(len(interfaces)),
        "gateway_endpoints": str(len(endpoints) - len(interfaces)),
        "endpoint_names": ", ".join(name.split(".", 3)[-1] for name in sorted(interfaces)),
        "zones": str(len(endpoints[-1]["SubnetIds"])),
        "roles": str(count(template, "AWS::IAM::Role")),
        "resources": str(len(template["Resources"])),
        "nat_gateways": str(count(template, "AWS::EC2::NatGateway")),
    }


def _training(template: Template) -> dict[str, str]:
    job = only_resource(template, "AWS::Glue::Job")
    definition = pipeline_definition(template)
    defaults = {one["Name"]: one.get("DefaultValue") for one in definition["Parameters"]}
    steps = {step["Name"]: step for step in definition["Steps"]}
    train, evaluate = steps["Train"]["Arguments"], steps["Evaluate"]["Arguments"]
    repository = only_resource(template, "AWS::ECR::Repository")
    [image_rule] = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    shown = ("MinAveragePrecision", "ConfidenceLevel", "NonInferiorityMargin", "ModelApprovalStatus", "MaxIterations")
    return {
        "glue_version": job["GlueVersion"],
        "worker_type": job["WorkerType"],
        "glue_workers": str(job["NumberOfWorkers"]),
        "glue_minutes": str(job["Timeout"]),
        "glue_retries": str(job["MaxRetries"]),
        "glue_concurrent": str(job["ExecutionProperty"]["MaxConcurrentRuns"]),
        "instance": defaults["TrainingInstanceType"],
        "volume_gb": str(train["ResourceConfig"]["VolumeSizeInGB"]),
        "train_hours": f"{train['StoppingCondition']['MaxRuntimeInSeconds'] / 3600:g}",
        "evaluate_hours": f"{evaluate['StoppingCondition']['MaxRuntimeInSeconds'] / 3600:g}",
        "parameters": str(len(defaults)),
        "parameter_table": _table(
            {"parameter": "---", "default": "---"}, ((f"`{name}`", str(defaults[name])) for name in shown)
        ),
        "untagged_days": str(image_rule["selection"]["countNumber"]),
    }


def _api(template: Template) -> dict[str, str]:
    task = only_resource(template, "AWS::ECS::TaskDefinition", "Api")
    scaling = only_resource(template, "AWS::ApplicationAutoScaling::ScalableTarget")
    policies = [
        one["TargetTrackingScalingPolicyConfiguration"]
        for one in resources(template, "AWS::ApplicationAutoScaling::ScalingPolicy")
    ]
    targets = {one["PredefinedMetricSpecification"]["PredefinedMetricType"]: one["TargetValue"] for one in policies}
    health = only_resource(template, "AWS::ElasticLoadBalancingV2::TargetGroup")
    per_minute = targets["ALBRequestCountPerTarget"]
    [container] = task["ContainerDefinitions"]
    return {
        "vcpu": f"{int(task['Cpu']) / 1024:g}",
        "memory_gb": f"{int(task['Memory']) / 1024:g}",
        "tasks": str(template["Parameters"]["ServingTasks"]["Default"]),
        "max_tasks": str(scaling["MaxCapacity"]),
        "cpu_target": f"{targets['ECSServiceAverageCPUUtilization']:g}",
        "task_requests_minute": f"{per_minute:,}",
        "most_requests_second": f"{per_minute / 60 * scaling['MaxCapacity']:,.0f}",
        "health_seconds": str(health["HealthCheckIntervalSeconds"]),
        "api_user": container["User"],
        "log_days": str(only_resource(template, "AWS::Logs::LogGroup", "ApiLog")["RetentionInDays"]),
    }


def _triggers(template: Template) -> dict[str, str]:
    functions = list(resources(template, "AWS::Lambda::Function"))
    queue = only_resource(template, "AWS::SQS::Queue", "TriggersStartRunQueue")
    dead = only_resource(template, "AWS::SQS::Queue", "TriggersStartRunDead")
    schedule = only_resource(template, "AWS::Events::Rule", "TriggersMonthly")["ScheduleExpression"]
    minute, hour, day = re.findall(r"\d+", schedule)
    alarms = {
        re.sub(r"^Alarms(\w+)[0-9A-F]{8}$", r"\1", name): found["Properties"]["AlarmDescription"]
        for name, found in template["Resources"].items()
        if found["Type"] == "AWS::CloudWatch::Alarm"
    }
    others = [(name, meaning) for name, meaning in alarms.items() if not name.endswith("Dead")]
    return {
        "functions": str(len(functions)),
        "function_mb": str(functions[0]["MemorySize"]),
        "function_seconds": str(functions[0]["Timeout"]),
        "runtime": functions[0]["Runtime"].replace("python", "Python "),
        "settle_seconds": str(queue["DelaySeconds"]),
        "attempts": str(queue["RedrivePolicy"]["maxReceiveCount"]),
        "queue_days": f"{queue['MessageRetentionPeriod'] / 86_400:g}",
        "dead_days": f"{dead['MessageRetentionPeriod'] / 86_400:g}",
        "rules": str(count(template, "AWS::Events::Rule")),
        "schedule": f"day {day} of each month, {int(hour):02}:{int(minute):02} UTC",
        "queues": str(count(template, "AWS::SQS::Queue") // 2),
        "alarms": str(len(alarms)),
        "alarm_table": _table(
            {"alarm": "----------", "goes off when": "----------------------"},
            [("one for each dead-letter queue", "A function gave up on a message"), *others],
        ),
        "latency_alarm": f"{1000 * only_resource(template, 'AWS::CloudWatch::Alarm', 'AlarmsLatency')['Threshold']:g}",
        "age_alarm": f"{_threshold(template, 'ModelAgeDays'):g}",
    }


def _costs(bill: Bill, grown: Bill) -> dict[str, str]:
    prices, volumes = bill.prices, bill.volumes
    decision = (
        LAMBDA_SECONDS * bill.sizes.memory_gb * prices["lambda_gb_second"].usd + prices["lambda_request"].usd / 1e6
    )
    api = bill.total(service="Fargate")
    instead = volumes.runs * volumes.feature_minutes / 60 * bill.sizes.glue_workers * prices[DPU_AS_INSTANCE].usd
    others = {other.name: other for other in bill.alternatives()}

    def other(start: str) -> str:
        [found] = [other.usd for name, other in others.items() if name.startswith(start)]
        return _usd(found)

    return {
        "region": bill.region,
        "price_date": max(price.date for price in prices.values()).isoformat(),
        "transactions": f"{volumes.transactions:,.0f}",
        "runs": f"{volumes.runs:g}",
        "data_gb": f"{volumes.data_gb:g}",
        "feature_minutes": f"{volumes.feature_minutes:g}",
        "training_minutes": f"{volumes.training_minutes:g}",
        "total_usd": _usd(bill.total()),
        "standing_usd": _usd(bill.total("standing")),
        "runs_usd": _usd(bill.total("runs")),
        "run_usd": _usd(bill.total("runs") / volumes.runs),
        "transactions_usd": _usd(bill.total("transactions")),
        "glue_usd": _usd(bill.total(service="Glue")),
        "sagemaker_usd": _usd(bill.total(service="SageMaker")),
        "fargate_usd": _usd(api),
        "front_usd": _usd(bill.total(service="Load balancer")),
        "endpoints_usd": _usd(bill.total(service="VPC endpoints")),
        "dynamodb_usd": _usd(bill.total(service="DynamoDB")),
        "events_usd": _usd(bill.total(service="SQS") + bill.total(service="Lambda")),
        "watching_usd": _usd(bill.total(service="CloudWatch")),
        "no_api_usd": _usd(monthly_bill(Volumes(transactions=0, tasks=0)).total()),
        "endpoint_alternative_usd": other("SageMaker endpoint"),
        "ours_of_endpoint_usd": _usd(api + bill.total(service="Load balancer")),
        "eks_usd": other("EKS"),
        "ec2_usd": other("EC2, 2"),
        "emr_usd": other("EMR"),
        "spark_server_usd": other("EC2, 1"),
        "processing_usd": _usd(instead),
        "lambda_ms": f"{1000 * LAMBDA_SECONDS:g}",
        "lambda_usd": _usd(volumes.transactions * decision),
        "break_even": f"{api / decision / 1e6:,.0f}",
        "bill_table": _bill_table(bill),
        "grown_transactions": f"{grown.volumes.transactions:,.0f}",
        "grown_runs": f"{grown.volumes.runs:g}",
        "grown_tasks": f"{grown.volumes.tasks:g}",
        "grown_gb": f"{grown.volumes.data_gb:g}",
        "grown_usd": _usd(grown.total()),
        "grown_per_million_usd": _usd(grown.total() / (grown.volumes.transactions / 1e6)),
    }


def _bill_table(bill: Bill) -> str:
    rows = [
        (
            service,
            *(_usd(part) if (part := bill.total(kind, service)) else "" for kind in KINDS),
            _usd(bill.total(service=service)),
        )
        for service in bill.services()
    ]
    total = ("**total**", *(_usd(bill.total(kind)) for kind in KINDS), f"**{_usd(bill.total())}**")
    return _table({"service": "---", **dict.fromkeys((*KINDS, "per month"), "---:")}, [*rows, total])


def _usd(value: float) -> str:
    return f"{value:,.2f}"


def _table(columns: Mapping[str, str], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown. columns: each header, with the dashes below it, which give the width and the alignment."""
    lines = [tuple(columns), tuple(columns.values()), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _threshold(template: Template, metric: str) -> float:
    [found] = [
        one["Threshold"] for one in resources(template, "AWS::CloudWatch::Alarm") if one.get("MetricName") == metric
    ]
    return float(found)
