"""The sizes and numbers of what the stack deploys, as far as they are paid for.

They are read from the stack's template. Synthesizing it takes Node, the CDK and half a minute, which `fraudline cost`
must do without; so `make rationale` writes them to `stack_sizes.json`, and a test compares that file with the template.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.infrastructure.template import Template, count, only_resource, pipeline_definition, resources

FILE = Path(__file__).with_name("stack_sizes.json")


@dataclass(frozen=True)
class StackSizes:
    """What the stack deploys.

    vcpu, memory_gb: of an API task
    glue_workers: the most that auto-scaling starts; workers of G.1X, one DPU each
    instance, volume_gb: of training and of evaluation
    queues: that feed a function
    function_gb: a function's memory
    """

    vcpu: float
    memory_gb: float
    zones: int
    interface_endpoints: int
    balancers: int
    glue_workers: int
    instance: str
    volume_gb: int
    queues: int
    function_gb: float
    alarms: int
    dashboards: int
    keys: int
    secrets: int


def read_sizes() -> StackSizes:
    """The sizes as last written."""
    return StackSizes(**json.loads(FILE.read_text(encoding="utf-8")))


def write_sizes(sizes: StackSizes) -> None:
    """Write the file anew."""
    FILE.write_text(json.dumps(asdict(sizes), indent=2) + "\n", encoding="utf-8")


def sizes_of(template: Template) -> StackSizes:
    """The sizes in a template. Raises ValueError if it has several where the bill knows one."""
    task = only_resource(template, "AWS::ECS::TaskDefinition", "Api")
    job = only_resource(template, "AWS::Glue::Job")
    endpoints = [one for one in resources(template, "AWS::EC2::VPCEndpoint") if one["VpcEndpointType"] == "Interface"]
    [zones] = {len(endpoint["SubnetIds"]) for endpoint in endpoints}
    [function_mb] = {function["MemorySize"] for function in resources(template, "AWS::Lambda::Function")}
    definition = pipeline_definition(template)
    defaults = {parameter["Name"]: parameter.get("DefaultValue") for parameter in definition["Parameters"]}
    [instance] = {defaults[f"{kind}InstanceType"] for kind in ("Training", "Processing")}
    requests = {step["Name"]: step["Arguments"] for step in definition["Steps"]}
    [volume_gb] = {
        requests["Train"]["ResourceConfig"]["VolumeSizeInGB"],
        requests["Evaluate"]["ProcessingResources"]["ClusterConfig"]["VolumeSizeInGB"],
    }
    return StackSizes(
        vcpu=int(task["Cpu"]) / 1024,
        memory_gb=int(task["Memory"]) / 1024,
        zones=zones,
        interface_endpoints=len(endpoints),
        balancers=count(template, "AWS::ElasticLoadBalancingV2::LoadBalancer"),
        glue_workers=job["NumberOfWorkers"],
        instance=instance,
        volume_gb=volume_gb,
        queues=count(template, "AWS::Lambda::EventSourceMapping"),
        function_gb=function_mb / 1024,
        alarms=count(template, "AWS::CloudWatch::Alarm"),
        dashboards=count(template, "AWS::CloudWatch::Dashboard"),
        keys=count(template, "AWS::KMS::Key"),
        secrets=count(template, "AWS::SecretsManager::Secret"),
    )
