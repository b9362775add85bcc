"""The charts of a model's report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from sklearn.metrics import precision_recall_curve

from pipeline.data.dataset import Dataset
from pipeline.evaluation.bootstrap import ModelScores
from pipeline.evaluation.importance import Importance
from pipeline.evaluation.report.svg import ALARM, FAINT, INK, OURS, THEIRS, svg_chart, without_vertical_grid
from pipeline.evaluation.threshold import expected_cost
from processing.arrays import Floats
from processing.contract import Contract
from processing.split import date_of

POINTS = 200  # of a curve
SHOWN_FEATURES = 15


def precision_recall_chart(rows: Dataset, ours: ModelScores, theirs: ModelScores | None) -> Markup:
    """The precision-recall curves, with a dot at each threshold."""

    def draw(axes: Axes) -> None:
        for scores, colour, label in _models(ours, theirs):
            precision, recall, _ = precision_recall_curve(rows.y, scores.score)
            sampled = np.unique(np.linspace(0, len(recall) - 1, 2000).astype(int))
            shown = sampled[np.unique((recall[sampled] * POINTS).astype(int), return_index=True)[1]]
            axes.step(recall[shown], precision[shown], color=colour, label=label, where="post")
            axes.plot(*_at_threshold(rows, scores), "o", color=colour, markersize=6)
        axes.set(xlabel="recall: share of frauds caught", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.04))
        axes.legend(loc="lower left")

    recall, precision = _at_threshold(rows, ours)
    return svg_chart(
        "pr",
        "Precision and recall",
        f"Precision falls as recall rises. At the threshold, marked by a dot, recall is {recall:.0%} and precision "
        f"{precision:.0%}.",
        draw,
    )


def cost_chart(rows: Dataset, ours: ModelScores, theirs: ModelScores | None, contract: Contract) -> Markup:
    """The expected cost per day against the threshold, with the models' thresholds and the cost without alerts."""
    days = len(np.unique(rows.day))
    lowest = max(1e-4, float(np.quantile(ours.score, 0.5)))
    thresholds = np.geomspace(min(lowest, ours.threshold / 2), 1.0, 120)

    def cost(scores: ModelScores, threshold: float) -> float:
        return expected_cost(rows.y, rows.amount, scores.score, threshold, contract) / days

    def draw(axes: Axes) -> None:
        for scores, colour, label in _models(ours, theirs):
            axes.plot(thresholds, [cost(scores, each) for each in thresholds], color=colour, label=label)
            axes.axvline(scores.threshold, color=colour, linewidth=0.9, linestyle="--")
            axes.plot(scores.threshold, cost(scores, scores.threshold), "o", color=colour, markersize=6)
        axes.axhline(cost(ours, np.inf), color=INK, linewidth=0.9, linestyle=":", label="no alerts")
        axes.set(xscale="log", xlabel="threshold", ylabel="expected cost per day")
        axes.set_ylim(0, 1.6 * cost(ours, np.inf) or None)
        axes.legend(loc="upper right")

    return svg_chart(
        "cost",
        "Expected cost per day by threshold",
        f"At the threshold of {ours.threshold:.4g}, marked by a dot, the cost is {cost(ours, ours.threshold):,.0f} a "
        f"day; without any alerts it would be {cost(ours, np.inf):,.0f}.",
        draw,
    )


def reliability_chart(rows: Dataset, score: Floats) -> Markup:
    """The reliability diagram: predicted probability and actual fraud rate, in bins of equally many expected frauds.

    With few frauds, bins of equal counts would put all of them into the last. The bars are Wilson's 95 % intervals.
    """
    order = np.argsort(score, kind="stable")
    expected = np.cumsum(score[order])
    bins = np.minimum((10 * expected / max(expected[-1], 1e-300)).astype(int), 9)
    n = np.bincount(bins, minlength=10).astype(np.float64)
    used = n > 0
    n = n[used]
    predicted = np.bincount(bins, score[order], 10)[used] / n
    actual = np.bincount(bins, rows.y[order].astype(np.float64), 10)[used] / n
    middle, half = (actual + 1.92 / n) / (1 + 3.84 / n), np.sqrt(actual * (1 - actual) / n + 0.96 / n**2)
    half *= 1.96 / (1 + 3.84 / n)
    low, high = np.maximum(middle - half, 0.0), middle + half
    least = float(max(min(predicted.min(), actual[actual > 0].min(initial=1.0)) / 2, 1e-6))

    def draw(axes: Axes) -> None:
        axes.plot([least, 1], [least, 1], color=INK, linewidth=0.9, linestyle=":", label="perfectly calibrated")
        axes.vlines(predicted, np.maximum(low, least), high, color=OURS, linewidth=1)
        axes.plot(predicted, np.maximum(actual, least), "o", color=OURS, markersize=4.5, label="this model")
        axes.set(xscale="log", yscale="log", xlim=(least, 1.3), ylim=(least, 1.3))
        axes.set(xlabel="predicted probability of fraud", ylabel="actual fraud rate")
        axes.legend(loc="upper left")

    ratio = float(score.sum()) / max(1, rows.frauds)
    return svg_chart(
        "calibration",
        "Reliability diagram",
        f"Predicted probability against actual fraud rate in {len(n)} bins; on the diagonal they agree. In total "
        f"{score.sum():,.0f} frauds were predicted and {rows.frauds:,} occurred, a ratio of {ratio:.2f}.",
        draw,
    )


def day_chart(rows: Dataset, ours: ModelScores) -> Markup:
    """Frauds caught and missed, and false positives, on each day."""
    days, day = np.unique(rows.day, return_inverse=True)
    alert, fraud = ours.score >= ours.threshold, rows.y == 1
    caught, missed, false_positives = (
        np.bincount(day[part], minlength=len(days)) for part in (alert & fraud, ~alert & fraud, alert & ~fraud)
    )
    x = np.arange(len(days))

    def draw(axes: Sequence[Axes]) -> None:
        axes[0].bar(x, caught, color=OURS, label="frauds caught", width=0.7)
        axes[0].bar(x, missed, bottom=caught, color=ALARM, label="frauds missed", width=0.7)
        axes[0].set_ylim(0, 1.35 * max(1, (caught + missed).max()))
        axes[0].legend(loc="upper left", ncols=2)
        axes[1].bar(x, false_positives, color=FAINT, label="false positives", width=0.7)
        axes[1].set_ylim(0, 1.35 * max(1, false_positives.max()))
        axes[1].legend(loc="upper left")
        ticks = x[:: -(-len(days) // 8)]
        axes[1].set_xticks(ticks, [f"{date_of(days[i]):%d %b}" for i in ticks])
        for each in axes:
            without_vertical_grid(each)

    share = caught / np.maximum(1, caught + missed)
    return svg_chart(
        "days",
        "Detection by day",
        f"Between {share.min():.0%} and {share.max():.0%} of a day's frauds were caught, with "
        f"{false_positives.min():,} to {false_positives.max():,} false positives a day.",
        draw,
        rows=2,
    )


def importance_chart(importances: Sequence[Importance]) -> Markup:
    """The permutation importance of the most important features."""
    shown = list(importances[:SHOWN_FEATURES])[::-1]

    def draw(axes: Axes) -> None:
        axes.barh([one.feature for one in shown], [one.loss for one in shown], color=OURS, height=0.7)
        axes.errorbar(
            [one.loss for one in shown],
            range(len(shown)),
            xerr=[one.deviation for one in shown],
            fmt="none",
            ecolor=INK,
            elinewidth=0.9,
        )
        axes.set_xlabel("loss of average precision\nwhen shuffled")
        axes.grid(False, axis="y")

    best = importances[0]
    return svg_chart(
        "importance",
        "Feature importance by permutation",
        f"{best.feature} is the most important feature: when it is shuffled, the average precision falls by "
        f"{best.loss:.3f}.",
        draw,
        size=(4.8, 1.0 + 0.2 * len(shown)),
    )


def difference_chart(comparison: Mapping[str, Any], loss_per_day: float) -> Markup:
    """Challenger against champion: differences with their intervals and the margin; right is better."""
    precision, cost = comparison["average_precision"], comparison["cost_per_day"]
    loss = loss_per_day or 1.0
    lines = [
        ("savings", -cost["difference"] / loss, -cost["high"] / loss, -cost["low"] / loss),
        ("average\nprecision", precision["difference"], precision["low"], precision["high"]),
    ]

    def draw(axes: Axes) -> None:
        for y, (_, middle, low, high) in enumerate(lines):
            axes.hlines(y, low, high, color=OURS, linewidth=3)
            axes.plot(middle, y, "o", color=OURS, markersize=7)
        axes.axvline(0.0, color=INK, linewidth=0.9)
        axes.axvline(-precision["margin"], color=ALARM, linewidth=1.2, linestyle="--", label="margin")
        axes.set_yticks(range(len(lines)), [name for name, *_ in lines])
        axes.set_ylim(-0.6, len(lines) - 0.4)
        axes.set_xlabel("worse   ←   challenger − champion   →   better")
        axes.grid(False, axis="y")
        axes.legend(loc="upper right")

    return svg_chart(
        "comparison",
        "Challenger against champion",
        f"At {comparison['confidence']:.0%} confidence each, the average precision differs by at least "
        f"{precision['low']:+.4f} and the cost per day by at most {cost['high']:+,.2f}.",
        draw,
        size=(4.8, 1.9),
    )


def _models(ours: ModelScores, theirs: ModelScores | None) -> list[tuple[ModelScores, str, str]]:
    """The models with their colours and labels, the champion first."""
    champion = [(theirs, THEIRS, "champion")] if theirs else []
    return [*champion, (ours, OURS, "this model")]


def _at_threshold(rows: Dataset, scores: ModelScores) -> tuple[float, float]:
    """Recall and precision at the threshold."""
    alert, fraud = scores.score >= scores.threshold, rows.y == 1
    caught = int(np.count_nonzero(alert & fraud))
    return caught / max(1, rows.frauds), caught / max(1, int(np.count_nonzero(alert)))
