"""The population stability index (PSI) that chance alone produces: its distribution in an unchanged population.

A PSI is never 0. For independent rows it is about a chi-squared variable divided by the number of rows (B. Yurdakul and
J. Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation 14, 2020). But
the rows of one terminal, one customer or one hour are not independent, and the largest of fifty indices follows another
distribution than one of them. So the sample is drawn again many times from the rows of the reference: for every entity
in it another one of the reference with as many rows, and for every period another period (the cluster bootstrap: A. C.
Cameron, J. B. Gelbach and D. L. Miller, "Bootstrap-based improvements for inference with clustered errors", Review of
Economics and Statistics 90, 2008). The contributions of the ways of clustering are added, as in their "Robust inference
with multiway clustering", Journal of Business and Economic Statistics 29, 2011. The reference is a sample too and is
drawn again with it.

A feature's limit is such that in an unchanged population *any* feature exceeds its own limit in a share LEVEL of the
samples: the largest index, each divided by its own upper quantile, is compared with its distribution over the same
draws (the single-step maxT procedure of P. H. Westfall and S. S. Young, "Resampling-Based Multiple Testing", 1993).
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.reference_sample import unpack_array
from pipeline.evaluation.resampling import EntitySample, Histograms
from processing.arrays import Floats
from processing.errors import Damaged

LEVEL = 0.01  # the share of samples in which chance alone takes any feature beyond its limit
DRAWS = 1000
SIMULATED = 4_000  # rows of a draw, also for a larger sample; its limits are then too high, never too low
UPPER = 0.95  # the quantile by which indices of different spread are made comparable


@dataclass(frozen=True)
class Chance:
    """What chance alone does to the indices of k columns.

    limits: in all but a share LEVEL of the samples, chance takes no index beyond its limit, [k]
    scales: the divisors that make indices comparable, for each way of drawing, [ways, k]
    worst: the largest scaled index, [ways, draws]
    """

    limits: Floats
    scales: Floats
    worst: Floats

    def p_values(self, psi: Floats) -> Floats:
        """How often chance alone takes any column that far, [k]: p-values, adjusted for the number of columns."""
        exceeded = [np.count_nonzero(worst >= psi[:, None] / scale[:, None], axis=1) for worst, scale in self._ways()]
        return np.asarray((1.0 + np.max(exceeded, axis=0)) / (1.0 + self.worst.shape[1]))

    def _ways(self) -> Sequence[tuple[Floats, Floats]]:
        return list(zip(self.worst, self.scales, strict=True))


def chance(
    sample: Mapping[str, Any],
    widths: Sequence[int],
    columns: Sequence[int],
    entities: Sequence[Any],
    periods: Any,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Chance:
    """What chance alone does to the indices of some columns, in rows like these against the reference.

    sample, widths: what `sample_of` returned, and what it was given
    columns: the indices of the columns among all
    entities: for each kind of entity, in the reference's order, the entity of every row, [n]
    periods: the period of every row, [n], about as long as the reference's
    Raises Damaged if the reference's sample is damaged.
    """
    random = np.random.default_rng(seed)
    n = len(periods)
    rows = np.sort(random.permutation(n)[:SIMULATED])
    try:
        positions = np.concatenate([np.arange(widths[c]) + sum(widths[:c]) for c in columns])
        kinds = [EntitySample.of(kind, widths, positions) for kind in sample["entities"].values()]
        counts = unpack_array(sample["periods"]["counts"], "<i4").reshape(-1, sum(widths))[:, positions]
        period_counts = counts.astype(np.float64)
        total, share = int(sample["rows"]), len(counts) / int(sample["periods"]["of"])
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise Damaged(
            f"the sample in a model's reference is damaged ({error!r}); the next run's model brings a new one"
        ) from None
    histograms = Histograms(np.array([widths[c] for c in columns]), total, len(rows))
    drawn = []
    for kind, own in zip(kinds, entities, strict=False):
        profile = np.unique(np.asarray(own)[rows], return_counts=True)[1]
        reference = histograms.reference(kind.counts, kind.redraw(random, draws), kind.share)
        drawn.append(histograms.psi(reference, kind.draw(random, profile, len(rows) / total, draws)))
    profile = np.unique(np.asarray(periods)[rows], return_counts=True)[1]
    times = random.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), draws).astype(np.float64)
    reference = histograms.reference(period_counts, times @ period_counts, share)
    drawn.append(histograms.psi(reference, histograms.mixed(random, period_counts, profile, draws)))
    base = np.tile(histograms.shares(period_counts.sum(axis=0)), (draws, 1))
    independent = histograms.psi(histograms.rows(random, base, total), histograms.rows(random, base, len(rows)))
    return _limits(drawn, independent.mean(axis=0), level)


def _limits(drawn: Sequence[Floats], independent: Floats, level: float) -> Chance:
    """The limits, from the indices of each way of drawing, [draws, k], and the means for independent rows, [k]."""
    means = np.stack([one.mean(axis=0) for one in drawn])
    together = independent + np.maximum(means - independent, 0.0).sum(axis=0)
    factor = np.maximum(together / np.maximum(means.max(axis=0), 1e-12), 1.0)
    scales = np.stack([np.maximum(np.quantile(one, UPPER, axis=0), 1e-9) for one in drawn])
    worst = np.stack([(one / scale).max(axis=1) for one, scale in zip(drawn, scales, strict=True)])
    reached = np.quantile(worst, 1.0 - level, axis=1)
    return Chance((reached[:, None] * scales).max(axis=0) * factor, scales * factor, worst)
