"""The diagram of the architecture: three applications, the data between them, and the alarms."""

import io
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ALT = (
    "Architecture. Top: files and other teams' tables raise events, which EventBridge puts into an SQS queue with a "
    "dead-letter queue; a Lambda function starts the SageMaker pipeline. Middle: the pipeline's steps Features (a Glue "
    "job), Train, Evaluate, Gate, Register and Promote, over the home in S3 with its Iceberg tables, models and the "
    "pointer latest.json. Bottom: callers use an internal load balancer, behind which two ECS Fargate tasks score with "
    "the promoted model and the online store in DynamoDB. CloudWatch alarms reach the team through SNS."
)
INK, LINE = "#1f2a37", "#5b6b7d"
LANES = {"triggers": "#eef4fb", "training": "#f3f7ee", "serving": "#fdf4ec", "data": "#f3f0f8"}
EDGES = {"triggers": "#4a7fb5", "training": "#6a9248", "serving": "#c9833f", "data": "#7d68a8"}
WIDTH, HEIGHT = 120.0, 76.0
Point = tuple[float, float]


def draw() -> bytes:
    """The diagram as a PNG, the same bytes each time."""
    figure = Figure(figsize=(WIDTH / 14.5, HEIGHT / 14.5), dpi=240)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, HEIGHT)
    axes.axis("off")
    _lane(axes, 21, 55, 98.8, 20, "triggers", "Retraining function")
    _lane(axes, 21, 29, 98.8, 23, "training", "Training job: one SageMaker pipeline")
    _lane(axes, 21, 1, 98.8, 25, "serving", "API, in a network without internet access")
    _lane(axes, 0.2, 1, 18.3, 74, "data", "Home in S3")
    _data(axes)
    _retraining(axes)
    _training(axes)
    _serving(axes)
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _data(axes: Axes) -> None:
    for y, text in (
        (59, "incoming/\nfiles that wait"),
        (43, "warehouse/\nIceberg tables,\nGlue catalog"),
        (31, "runs/\nsets, results"),
        (14, "models/\nversions,\nlatest.json"),
    ):
        _box(axes, 2, y, 14.5, 9.5, text, "data")


def _retraining(axes: Axes) -> None:
    _box(axes, 24.5, 59, 18, 10, "EventBridge\nfile, table, schedule,\nend of a run", "triggers")
    _box(axes, 48.5, 59, 18, 10, "SQS queue\n+ dead-letter queue", "triggers")
    _box(axes, 73, 59, 17, 10, "Lambda\nstarts one run\nat a time", "triggers")
    _box(axes, 97, 59, 19, 10, "CloudWatch alarms\n→ SNS → the team", "triggers")
    _arrow(axes, (16.5, 64), (24.5, 64))
    _arrow(axes, (42.5, 64), (48.5, 64))
    _arrow(axes, (66.5, 64), (73, 64))
    _arrow(axes, (81.5, 59), (81.5, 53.5), bend=((81.5, 53.5), (34, 53.5), (34, 45.5)))


def _training(axes: Axes) -> None:
    steps = (
        "Features\nGlue, Spark",
        "Train\nSageMaker job",
        "Evaluate\nSageMaker job",
        "Gate",
        "Register",
        "Promote\nLambda",
    )
    left, widths = 25.0, (17.0, 15.0, 15.0, 9.0, 10.0, 10.0)
    for i, (text, width) in enumerate(zip(steps, widths, strict=True)):
        _box(axes, left, 36, width, 9.5, text, "training")
        if i < len(steps) - 1:
            _arrow(axes, (left + width, 40.75), (left + width + 3, 40.75))
        left += width + 3
    _arrow(axes, (16.5, 47), (25, 43.5), both=True)
    _arrow(axes, (16.5, 35), (25, 38.5), both=True)
    axes.text(62, 31.6, "the same definition runs on a laptop", fontsize=7.5, color=LINE, style="italic")
    _arrow(axes, (111, 36), (111, 27.5), bend=((111, 27.5), (19.8, 27.5), (19.8, 20.5), (16.5, 20.5)))


def _serving(axes: Axes) -> None:
    _box(axes, 97, 9, 18, 10, "Callers\nin the network", "serving")
    _box(axes, 73, 9, 17, 10, "Load balancer\ninternal, TLS", "serving")
    _box(axes, 49, 9, 17, 10, "ECS Fargate\nAPI, two zones", "serving")
    _box(axes, 25, 9, 17, 10, "DynamoDB\nonline store,\ndecisions", "serving")
    _arrow(axes, (97, 14), (90, 14), both=True)
    _arrow(axes, (73, 14), (66, 14), both=True)
    _arrow(axes, (49, 14), (42, 14), both=True)
    _arrow(axes, (57.5, 9), (57.5, 4), bend=((57.5, 4), (9.5, 4), (9.5, 14)), reverse=True)
    axes.text(26, 4.7, "follows latest.json, loads the model", fontsize=7.5, color=LINE, style="italic")
    _arrow(axes, (33.5, 36), (33.5, 19), dashed=True)
    axes.text(34.5, 22, "refreshes the profiles", fontsize=7.5, color=LINE, style="italic")


def _lane(axes: Axes, x: float, y: float, width: float, height: float, colour: str, title: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=1.2", fc=LANES[colour], ec=EDGES[colour], lw=0.8
        )
    )
    # On the right, where no arrow passes; the narrow lane has room on the left only.
    left, side = (x + width - 2, "right") if width > 20 else (x + 1.6, "left")
    axes.text(left, y + height - 1.6, title, fontsize=9, weight="bold", color=EDGES[colour], va="top", ha=side)


def _box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.8", fc="white", ec=EDGES[colour], lw=1.1
        )
    )
    axes.text(x + width / 2, y + height / 2, text, fontsize=7.6, color=INK, ha="center", va="center", linespacing=1.2)


def _arrow(
    axes: Axes,
    start: Point,
    end: Point,
    *,
    bend: tuple[Point, ...] = (),
    both: bool = False,
    dashed: bool = False,
    reverse: bool = False,
) -> None:
    """Draw an arrow to `end`, or through the points of `bend` to the last of them."""
    points = [start, *(bend or (end,))]
    if reverse:
        points.reverse()
    for a, b in pairwise(points[:-1]):
        axes.plot([a[0], b[0]], [a[1], b[1]], color=LINE, lw=1.1, solid_capstyle="round", zorder=1)
    style = "<|-|>" if both else "-|>"
    axes.add_patch(
        FancyArrowPatch(
            points[-2],
            points[-1],
            arrowstyle=style,
            mutation_scale=9,
            lw=1.1,
            color=LINE,
            shrinkA=0,
            shrinkB=0,
            linestyle=(0, (3, 2)) if dashed else "-",
            zorder=1,
        )
    )
