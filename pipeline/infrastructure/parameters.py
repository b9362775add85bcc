"""The stack's parameters: the image and the numbers of tasks, which can change from one deployment to the next."""

from dataclasses import dataclass
from typing import Any

from aws_cdk import Aws, CfnCondition, CfnParameter, Fn, Stack, Token

from pipeline.infrastructure.deployment import LEAVE_TASKS

MAX_TASKS = 10
NO_IMAGE = "none"


@dataclass(frozen=True)
class StackParameters:
    """The values of the parameters, as tokens. Until an image has been pushed, both numbers of tasks are 0.

    has_image: whether an image has been pushed
    image_tag: its tag
    min_tasks: the fewest tasks of the API that scaling leaves (ServingTasks)
    desired_tasks: how many tasks this deployment asks for (StartTasks), or no value, which leaves as many as there are
    """

    has_image: CfnCondition
    image_tag: str
    min_tasks: int
    desired_tasks: Any


def declare_parameters(stack: Stack) -> StackParameters:
    """Add the parameters ImageTag, ServingTasks and StartTasks to the stack."""
    tag = CfnParameter(
        stack,
        "ImageTag",
        type="String",
        default="",
        allowed_pattern="[A-Za-z0-9._-]{0,128}",
        description="Tag of the image in the stack's repository; empty until one has been pushed",
    )
    serving = CfnParameter(
        stack,
        "ServingTasks",
        type="Number",
        default=2,
        min_value=0,
        max_value=MAX_TASKS,
        description="Minimum number of API tasks; 0 until a model has been promoted",
    )
    start = CfnParameter(
        stack,
        "StartTasks",
        type="Number",
        default=0,
        min_value=int(LEAVE_TASKS),
        max_value=MAX_TASKS,
        description=f"Number of API tasks to start now; {LEAVE_TASKS} keeps the current number",
    )
    has_tag = Fn.condition_not(Fn.condition_equals(tag, ""))
    has_image = CfnCondition(stack, "HasImage", expression=has_tag)
    leave = CfnCondition(
        stack, "LeaveTasks", expression=Fn.condition_and(has_tag, Fn.condition_equals(start, LEAVE_TASKS))
    )
    return StackParameters(
        has_image=has_image,
        image_tag=Token.as_string(Fn.condition_if(has_image.logical_id, tag.value_as_string, NO_IMAGE)),
        min_tasks=int(Token.as_number(Fn.condition_if(has_image.logical_id, serving.value_as_number, 0))),
        desired_tasks=Fn.condition_if(
            leave.logical_id, Aws.NO_VALUE, Fn.condition_if(has_image.logical_id, start.value_as_number, 0)
        ),
    )
