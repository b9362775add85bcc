"""What chance makes of a population stability index: its distribution for a sample of an unchanged population.

A PSI is never 0. Of independent rows it is about a chi-squared variable over the number of rows (B. Yurdakul and
J. Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation 14, 2020), but
the rows of one terminal, of one customer or of one hour are not independent, and the greatest of fifty indices is not
one of them. So the sample is drawn anew, many times, from the rows that the reference was made of: for every entity
in it another one of the reference with as many of its rows, and for every period another period (the cluster
bootstrap: A. C. Cameron, J. B. Gelbach and D. L. Miller, "Bootstrap-based improvements for inference with clustered
errors", Review of Economics and Statistics 90, 2008). What the ways of clustering add to chance is added up, as in
their "Robust inference with multiway clustering", Journal of Business and Economic Statistics 29, 2011. The reference
is a sample too, and is drawn anew with it.

The limit of a feature is such that in an unchanged population *any* feature passes its own in one of 1/LEVEL samples:
the greatest of the indices, each over its own upper quantile, is compared with what it is in the same draws (the
single-step maxT procedure of P. H. Westfall and S. S. Young, "Resampling-Based Multiple Testing", 1993).

What a reference keeps for this is bounded: ROWS rows of whole entities for each kind of them, as bins of the
histograms and without any name, and the counts of PERIODS periods.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Floats
from processing.errors import Damaged

Ints = NDArray[np.int64]

LEVEL = 0.01  # how often chance alone takes any feature of a sample beyond its limit
DRAWS = 1000
SIMULATED = 4_000  # rows of a draw: of a larger sample so many are drawn, and chance makes less of it than told
ROWS, PER_ENTITY = 3_000, 40  # that are kept: of one kind of entities, and of one of them
PERIODS, PARTS = 64, 8  # that are kept; of a day
UPPER = 0.95  # quantile by which indices of different spread are made comparable


@dataclass(frozen=True)
class Chance:
    """What chance makes of the indices of k columns.

    limits: the index that chance alone passes for none of them, but in one of 1/LEVEL samples, [k]
    scales: what an index is divided by to be compared, by the way of drawing, [ways, k]
    worst: the greatest index so divided, [ways, draws]
    """

    limits: Floats
    scales: Floats
    worst: Floats

    def p_values(self, psi: Floats) -> Floats:
        """How often chance alone takes any column so far, [k]: p-values, adjusted for the number of columns."""
        passed = [np.count_nonzero(worst >= psi[:, None] / scale[:, None], axis=1) for worst, scale in self._ways()]
        return np.asarray((1.0 + np.max(passed, axis=0)) / (1.0 + self.worst.shape[1]))

    def _ways(self) -> Sequence[tuple[Floats, Floats]]:
        return list(zip(self.worst, self.scales, strict=True))


def sample_of(bins: NDArray[np.uint8], widths: Sequence[int], entities: Mapping[str, Any], day: Ints) -> dict[str, Any]:
    """What a reference keeps of its rows, JSON-ready, to draw from.

    bins: the bin of every row in every column's histogram, [n, k], rows in the order of their times
    widths: how many bins the histogram of each column has, [k]
    entities: the entity of every row, [n], by the kind of entity
    """
    random = np.random.default_rng(0)
    period = periods_of(day)
    many = int(period.max()) + 1
    some = np.sort(random.permutation(many)[:PERIODS])
    counted = np.stack([_counts(bins[period == one], widths) for one in some])
    return {
        "rows": len(bins),
        "entities": {name: _entities(bins, np.asarray(values), random) for name, values in entities.items()},
        "periods": {"of": many, "counts": _packed(counted.astype("<i4"))},
    }


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
    """What chance makes of some columns' indices in a sample like the one given, against the reference.

    sample, widths: what `sample_of` gave, and was given
    columns: the places of the columns among all
    entities: the entity of every row of the sample, [n], for each kind, in the order of the reference's
    periods: the period of every row, [n], of about as long as the reference's
    Raises Damaged for a sample that is not as it was written.
    """
    random = np.random.default_rng(seed)
    n = len(periods)
    rows = np.sort(random.permutation(n)[:SIMULATED])
    try:
        places = np.concatenate([np.arange(widths[c]) + sum(widths[:c]) for c in columns])
        kept = [_Kept.of(one, widths, places) for one in sample["entities"].values()]
        counted = _unpacked(sample["periods"]["counts"], "<i4").reshape(-1, sum(widths))[:, places].astype(np.float64)
        whole, among = int(sample["rows"]), len(counted) / int(sample["periods"]["of"])
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise Damaged(f"the sample in a model's reference is damaged ({error!r}); the next run makes another") from None
    shape = _Columns(np.array([widths[c] for c in columns]), whole, len(rows))
    drawn = []
    for one, own in zip(kept, entities, strict=False):
        profile = np.unique(np.asarray(own)[rows], return_counts=True)[1]
        anew = shape.reference(one.counted, one.again(random, draws), one.among)
        drawn.append(shape.indices(anew, one.draw(random, profile, len(rows) / whole, draws)))
    profile = np.unique(np.asarray(periods)[rows], return_counts=True)[1]
    times = random.multinomial(len(counted), np.full(len(counted), 1 / len(counted)), draws).astype(np.float64)
    anew = shape.reference(counted, times @ counted, among)
    drawn.append(shape.indices(anew, shape.mixed(random, counted, profile, draws)))
    base = shape.shares(counted.sum(axis=0))
    independent = shape.indices(
        shape.rows(random, np.tile(base, (draws, 1)), whole), shape.rows(random, np.tile(base, (draws, 1)), len(rows))
    )
    return _limits(drawn, independent.mean(axis=0), level)


def _limits(drawn: Sequence[Floats], independent: Floats, level: float) -> Chance:
    """The limits from the indices of each way of drawing, [draws, k], and the means for independent rows, [k]."""
    means = np.stack([one.mean(axis=0) for one in drawn])
    together = independent + np.maximum(means - independent, 0.0).sum(axis=0)
    factor = np.maximum(together / np.maximum(means.max(axis=0), 1e-12), 1.0)
    scales = np.stack([np.maximum(np.quantile(one, UPPER, axis=0), 1e-9) for one in drawn])
    worst = np.stack([(one / scale).max(axis=1) for one, scale in zip(drawn, scales, strict=True)])
    reached = np.quantile(worst, 1.0 - level, axis=1)
    return Chance((reached[:, None] * scales).max(axis=0) * factor, scales * factor, worst)


@dataclass(frozen=True)
class _Kept:
    """Whole entities of one kind. Their rows follow one another.

    sizes: how many rows each has, kept: how many of them are kept, first: the place of the first one, [c]
    marks: 1 in the bins of each kept row, [rows, bins]; counted: the rows of each entity by bin, [c, bins]
    among: which share of all entities they are
    """

    sizes: Ints
    kept: Ints
    first: Ints
    marks: NDArray[np.float32]
    counted: Floats
    among: float

    @classmethod
    def of(cls, one: Mapping[str, Any], widths: Sequence[int], places: Ints) -> "_Kept":
        """The entities that a reference keeps, by the bins of some columns alone."""
        sizes, kept = np.array(one["sizes"], np.int64), np.array(one["kept"], np.int64)
        bins = _unpacked(one["bins"], "u1").reshape(int(kept.sum()), -1).astype(np.int64)
        marks = np.zeros((len(bins), sum(widths)), np.float32)
        marks[np.arange(len(bins))[:, None], bins + np.cumsum(widths) - widths] = 1.0
        marks = marks[:, places]
        first = np.cumsum(kept) - kept
        counted = np.add.reduceat(marks.astype(np.float64), first, axis=0) * (sizes / kept)[:, None]
        return cls(sizes, kept, first, marks, counted, len(sizes) / int(one["of"]))

    def draw(self, random: np.random.Generator, profile: Ints, rate: float, draws: int) -> Floats:
        """The bins of samples with entities of so many rows each, where a share `rate` is drawn, [draws, bins]."""
        entity, rows = self._others(random, profile, rate, draws)
        entity = np.repeat(entity, rows, axis=1)
        row = self.first[entity] + (random.random(entity.shape) * self.kept[entity]).astype(np.int64)
        times = _summed(row, None, len(self.marks))
        return np.asarray(times.astype(np.float32) @ self.marks, np.float64)

    def again(self, random: np.random.Generator, draws: int) -> Floats:
        """The bins of all rows of these entities, drawn anew, [draws, bins]."""
        entity, rows = self._others(random, self.sizes, 1.0, draws)
        times = _summed(entity, rows, len(self.sizes))
        return np.asarray(times @ (self.counted / self.sizes[:, None]))

    def _others(self, random: np.random.Generator, profile: Ints, rate: float, draws: int) -> tuple[Ints, Ints]:
        """Entities that stand for those of a profile, [draws, entities], and how many rows each gives, [entities].

        One that gives k rows where a share `rate` is drawn may be any of the reference, as likely as Poisson's
        distribution has it give k.
        """
        chosen, rows = [], []
        for k, many in zip(*np.unique(profile, return_counts=True), strict=True):
            weight = k * np.log(rate * self.sizes) - rate * self.sizes
            odds = np.cumsum(np.exp(weight - weight.max()))
            found = np.searchsorted(odds / odds[-1], random.random((draws, many)), side="right")
            chosen.append(np.minimum(found, len(odds) - 1))
            rows.append(np.full(many, k))
        return np.concatenate(chosen, axis=1), np.concatenate(rows)


@dataclass(frozen=True)
class _Columns:
    """Histograms side by side: how many bins each has, and how many rows the reference and the sample have."""

    widths: Ints
    whole: int
    sampled: int

    @property
    def firsts(self) -> Ints:
        return np.asarray(np.cumsum(self.widths) - self.widths)

    def shares(self, counts: Floats) -> Floats:
        """Counts as shares of their column, [..., bins]."""
        sums = np.add.reduceat(counts, self.firsts, axis=-1)
        return np.asarray(counts / np.repeat(np.maximum(sums, 1e-12), self.widths, axis=-1))

    def reference(self, counted: Floats, again: Floats, among: float) -> Floats:
        """The reference's counts as clusters that are a share `among` of all give them, [draws, bins].

        counted: the clusters' counts, [c, bins]; again: their sums, drawn anew, [draws, bins]
        """
        base = self.shares(counted.sum(axis=0))
        return np.asarray(np.maximum(base + (self.shares(again) - base) * np.sqrt(among), 0.0) * self.whole)

    def mixed(self, random: np.random.Generator, counted: Floats, profile: Ints, draws: int) -> Floats:
        """The bins of samples from other clusters [c, bins] that give so many rows each, [draws, bins].

        For clusters of far more rows than are drawn of them.
        """
        sizes = counted[:, : self.widths[0]].sum(axis=1)
        chosen = random.choice(len(counted), (draws, len(profile)), p=sizes / sizes.sum())
        weight = _summed(chosen, profile / profile.sum(), len(counted))
        return self.rows(random, weight @ self.shares(counted), self.sampled)

    def rows(self, random: np.random.Generator, shares: Floats, rows: int) -> Floats:
        """The bins of so many independent rows, [draws, bins], from shares [draws, bins]."""
        parts = np.split(shares, self.firsts[1:], axis=1)
        drawn = [random.multinomial(rows, part / part.sum(axis=1, keepdims=True)) for part in parts]
        return np.concatenate(drawn, axis=1).astype(np.float64)

    def indices(self, one: Floats, other: Floats) -> Floats:
        """The index between counts [draws, bins] of each column, [draws, k], as `evaluation.reference.divergence`."""
        p, q = self.shares(one + 0.5), self.shares(other + 0.5)
        return np.asarray(np.add.reduceat((p - q) * np.log(p / q), self.firsts, axis=1))


def _entities(bins: NDArray[np.uint8], entity: NDArray[Any], random: np.random.Generator) -> dict[str, Any]:
    """Rows of some whole entities, drawn at random; of a large one some of its rows."""
    code, sizes = np.unique(entity, return_inverse=True, return_counts=True)[1:]
    order, ends = np.argsort(code, kind="stable"), np.cumsum(sizes)
    rows: list[Ints] = []
    chosen: list[int] = []
    for one in random.permutation(len(sizes)):
        own = order[ends[one] - sizes[one] : ends[one]]
        rows.append(np.sort(random.permutation(own)[:PER_ENTITY]))
        chosen.append(int(one))
        if sum(map(len, rows)) >= ROWS:
            break
    return {
        "of": len(sizes),
        "sizes": [int(sizes[one]) for one in chosen],
        "kept": [len(own) for own in rows],
        "bins": _packed(bins[np.concatenate(rows)]),
    }


def periods_of(day: Ints) -> Ints:
    """The period of every row, [n] from 0: a stretch of its day, with as many rows as its others.

    Rows are in the order of their times.
    """
    code, many = np.unique(day, return_inverse=True, return_counts=True)[1:]
    within = np.arange(len(day)) - (np.cumsum(many) - many)[code]
    return np.unique(code * PARTS + within * PARTS // many[code], return_inverse=True)[1].astype(np.int64)


def _counts(bins: NDArray[np.uint8], widths: Sequence[int]) -> Ints:
    return np.concatenate([np.bincount(bins[:, j], minlength=width) for j, width in enumerate(widths)])


def _summed(chosen: Ints, weights: NDArray[Any] | None, many: int) -> NDArray[Any]:
    """How often each of so many was chosen in each draw [draws, ...], or the sums of weights [...], [draws, many]."""
    flat = (chosen + np.arange(len(chosen))[:, None] * many).ravel()
    given = None if weights is None else np.broadcast_to(weights, chosen.shape).ravel()
    return np.bincount(flat, given, minlength=len(chosen) * many).reshape(len(chosen), many)


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()


def _unpacked(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), kind)
