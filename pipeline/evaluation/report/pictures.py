"""The pictures of a model's report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from sklearn.metrics import precision_recall_curve

from pipeline.data.dataset import Dataset
from pipeline.evaluation.bootstrap import Scored
from pipeline.evaluation.importance import Importance
from pipeline.evaluation.report.svg import ALARM, FAINT, INK, OURS, THEIRS, picture, thin
from pipeline.evaluation.threshold import expected_cost
from processing.arrays import Floats
from processing.contract import Contract
from processing.split import date_of

POINTS = 200  # of a curve
SHOWN_FEATURES = 15


def precision_recall(rows: Dataset, ours: Scored, theirs: Scored | None) -> Markup:
    """The precision-recall curves, with the point that each threshold chooses."""

    def draw(axes: Axes) -> None:
        for one, colour, label in _both(ours, theirs):
            precision, recall, _ = precision_recall_curve(rows.y, one.score)
            places = np.unique(np.linspace(0, len(recall) - 1, 2000).astype(int))
            keep = places[np.unique((recall[places] * POINTS).astype(int), return_index=True)[1]]
            axes.step(recall[keep], precision[keep], color=colour, label=label, where="post")
            axes.plot(*_chosen(rows, one), "o", color=colour, markersize=6)
        axes.set(xlabel="recall: share of frauds caught", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.04))
        axes.legend(loc="lower left")

    recall, precision = _chosen(rows, ours)
    return picture(
        "pr",
        "Precision and recall",
        f"Precision falls as recall rises. At the chosen threshold, marked by a dot, recall is {recall:.0%} and "
        f"precision {precision:.0%}.",
        draw,
    )


def cost_curve(rows: Dataset, ours: Scored, theirs: Scored | None, contract: Contract) -> Markup:
    """The expected cost a day over the threshold, with the chosen thresholds and the cost of no alerts."""
    days = len(np.unique(rows.day))
    lowest = max(1e-4, float(np.quantile(ours.score, 0.5)))
    tried = np.geomspace(min(lowest, ours.threshold / 2), 1.0, 120)

    def cost(one: Scored, threshold: float) -> float:
        return expected_cost(rows.y, rows.amount, one.score, threshold, contract) / days

    def draw(axes: Axes) -> None:
        for one, colour, label in _both(ours, theirs):
            axes.plot(tried, [cost(one, each) for each in tried], color=colour, label=label)
            axes.axvline(one.threshold, color=colour, linewidth=0.9, linestyle="--")
            axes.plot(one.threshold, cost(one, one.threshold), "o", color=colour, markersize=6)
        axes.axhline(cost(ours, np.inf), color=INK, linewidth=0.9, linestyle=":", label="no alerts")
        axes.set(xscale="log", xlabel="threshold", ylabel="expected cost a day")
        axes.set_ylim(0, 1.6 * cost(ours, np.inf) or None)
        axes.legend(loc="upper right")

    return picture(
        "cost",
        "Expected cost a day over the threshold",
        f"At the chosen threshold of {ours.threshold:.4g}, marked by a dot, the cost is "
        f"{cost(ours, ours.threshold):,.0f} a day; without any alert it would be {cost(ours, np.inf):,.0f}.",
        draw,
    )


def reliability(rows: Dataset, score: Floats) -> Markup:
    """The reliability diagram: predicted probability and observed share, in bins of equal expected frauds.

    With few frauds, bins of equal counts would put all of them into the last. The bars are Wilson's 95 % intervals.
    """
    order = np.argsort(score, kind="stable")
    expected = np.cumsum(score[order])
    bins = np.minimum((10 * expected / max(expected[-1], 1e-300)).astype(int), 9)
    n = np.bincount(bins, minlength=10).astype(np.float64)
    held = n > 0
    n = n[held]
    predicted = np.bincount(bins, score[order], 10)[held] / n
    observed = np.bincount(bins, rows.y[order].astype(np.float64), 10)[held] / n
    middle, half = (observed + 1.92 / n) / (1 + 3.84 / n), np.sqrt(observed * (1 - observed) / n + 0.96 / n**2)
    half *= 1.96 / (1 + 3.84 / n)
    low, high = np.maximum(middle - half, 0.0), middle + half
    least = float(max(min(predicted.min(), observed[observed > 0].min(initial=1.0)) / 2, 1e-6))

    def draw(axes: Axes) -> None:
        axes.plot([least, 1], [least, 1], color=INK, linewidth=0.9, linestyle=":", label="perfectly calibrated")
        axes.vlines(predicted, np.maximum(low, least), high, color=OURS, linewidth=1)
        axes.plot(predicted, np.maximum(observed, least), "o", color=OURS, markersize=4.5, label="this model")
        axes.set(xscale="log", yscale="log", xlim=(least, 1.3), ylim=(least, 1.3))
        axes.set(xlabel="predicted probability of fraud", ylabel="observed share of frauds")
        axes.legend(loc="upper left")

    ratio = float(score.sum()) / max(1, rows.frauds)
    return picture(
        "calibration",
        "Reliability diagram",
        f"Predicted against observed share of frauds in {len(n)} bins; on the diagonal they agree. In all "
        f"{score.sum():,.0f} frauds were predicted and {rows.frauds:,} observed, a ratio of {ratio:.2f}.",
        draw,
    )


def by_day(rows: Dataset, ours: Scored) -> Markup:
    """Frauds caught and missed, and needless alerts, on every day."""
    days, place = np.unique(rows.day, return_inverse=True)
    alert, fraud = ours.score >= ours.threshold, rows.y == 1
    caught, missed, needless = (
        np.bincount(place[chosen], minlength=len(days)) for chosen in (alert & fraud, ~alert & fraud, alert & ~fraud)
    )
    where = np.arange(len(days))

    def draw(axes: Sequence[Axes]) -> None:
        axes[0].bar(where, caught, color=OURS, label="frauds caught", width=0.7)
        axes[0].bar(where, missed, bottom=caught, color=ALARM, label="missed", width=0.7)
        axes[0].set_ylim(0, 1.35 * max(1, (caught + missed).max()))
        axes[0].legend(loc="upper left", ncols=2)
        axes[1].bar(where, needless, color=FAINT, label="needless alerts", width=0.7)
        axes[1].set_ylim(0, 1.35 * max(1, needless.max()))
        axes[1].legend(loc="upper left")
        every = where[:: -(-len(days) // 8)]
        axes[1].set_xticks(every, [f"{date_of(days[i]):%d %b}" for i in every])
        for each in axes:
            thin(each)

    share = caught / np.maximum(1, caught + missed)
    return picture(
        "days",
        "Detection by day",
        f"Of the frauds of a day, between {share.min():.0%} and {share.max():.0%} were caught; "
        f"between {needless.min():,} and {needless.max():,} alerts a day were needless.",
        draw,
        rows=2,
    )


def importance(found: Sequence[Importance]) -> Markup:
    """The permutation importance of the features that matter most."""
    shown = list(found[:SHOWN_FEATURES])[::-1]

    def draw(axes: Axes) -> None:
        axes.barh([each.feature for each in shown], [each.loss for each in shown], color=OURS, height=0.7)
        axes.errorbar(
            [each.loss for each in shown],
            range(len(shown)),
            xerr=[each.deviation for each in shown],
            fmt="none",
            ecolor=INK,
            elinewidth=0.9,
        )
        axes.set_xlabel("loss of average precision\nwhen shuffled")
        axes.grid(False, axis="y")

    best = found[0]
    return picture(
        "importance",
        "Feature importance by permutation",
        f"The greatest is that of {best.feature}: without it the average precision falls by {best.loss:.3f}.",
        draw,
        size=(4.8, 1.0 + 0.2 * len(shown)),
    )


def differences(comparison: Mapping[str, Any], loss_per_day: float) -> Markup:
    """Challenger against champion: differences with their intervals and the margin, to the right is better."""
    precision, cost = comparison["average_precision"], comparison["cost_per_day"]
    loss = loss_per_day or 1.0
    lines = [
        ("savings", -cost["difference"] / loss, -cost["high"] / loss, -cost["low"] / loss),
        ("average\nprecision", precision["difference"], precision["low"], precision["high"]),
    ]

    def draw(axes: Axes) -> None:
        for place, (_, middle, low, high) in enumerate(lines):
            axes.hlines(place, low, high, color=OURS, linewidth=3)
            axes.plot(middle, place, "o", color=OURS, markersize=7)
        axes.axvline(0.0, color=INK, linewidth=0.9)
        axes.axvline(-precision["margin"], color=ALARM, linewidth=1.2, linestyle="--", label="margin")
        axes.set_yticks(range(len(lines)), [name for name, *_ in lines])
        axes.set_ylim(-0.6, len(lines) - 0.4)
        axes.set_xlabel("worse   ←   challenger − champion   →   better")
        axes.grid(False, axis="y")
        axes.legend(loc="upper right")

    return picture(
        "comparison",
        "Challenger against champion",
        f"With {comparison['confidence']:.0%} confidence each, the average precision differs by "
        f"{precision['low']:+.4f} or more and the cost a day by {cost['high']:+,.2f} or less.",
        draw,
        size=(4.8, 1.9),
    )


def _both(ours: Scored, theirs: Scored | None) -> list[tuple[Scored, str, str]]:
    champion = [(theirs, THEIRS, "champion")] if theirs else []
    return [*champion, (ours, OURS, "this model")]


def _chosen(rows: Dataset, one: Scored) -> tuple[float, float]:
    """Recall and precision at the threshold."""
    alert, fraud = one.score >= one.threshold, rows.y == 1
    caught = int(np.count_nonzero(alert & fraud))
    return caught / max(1, rows.frauds), caught / max(1, int(np.count_nonzero(alert)))
