"""Draws samples of an unchanged population again, in clusters, from the sample that a reference keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.reference_sample import unpack_array
from processing.arrays import Floats, Ints


@dataclass(frozen=True)
class EntitySample:
    """Whole entities of one kind, c of them. The rows of an entity are adjacent.

    sizes: how many rows each entity has, [c]
    kept: how many of them are in the sample, [c]
    first: the index of the first of these, [c]
    marks: 1 in the bins of each kept row, [rows, bins]
    counts: the rows of each entity by bin, [c, bins]
    share: the sampled share of all entities
    """

    sizes: Ints
    kept: Ints
    first: Ints
    marks: NDArray[np.float32]
    counts: Floats
    share: float

    @classmethod
    def of(cls, sample: Mapping[str, Any], widths: Sequence[int], positions: Ints) -> "EntitySample":
        """The entities that a reference keeps, with the bins of some columns only."""
        sizes, kept = np.array(sample["sizes"], np.int64), np.array(sample["kept"], np.int64)
        bins = unpack_array(sample["bins"], "u1").reshape(int(kept.sum()), -1).astype(np.int64)
        marks = np.zeros((len(bins), sum(widths)), np.float32)
        marks[np.arange(len(bins))[:, None], bins + np.cumsum(widths) - widths] = 1.0
        marks = marks[:, positions]
        first = np.cumsum(kept) - kept
        counts = np.add.reduceat(marks.astype(np.float64), first, axis=0) * (sizes / kept)[:, None]
        return cls(sizes, kept, first, marks, counts, len(sizes) / int(sample["of"]))

    def draw(self, random: np.random.Generator, profile: Ints, rate: float, draws: int) -> Floats:
        """The bins of samples whose entities have so many rows each, at a sampling rate, [draws, bins]."""
        entity, rows = self._substitutes(random, profile, rate, draws)
        entity = np.repeat(entity, rows, axis=1)
        row = self.first[entity] + (random.random(entity.shape) * self.kept[entity]).astype(np.int64)
        times = times_chosen(row, None, len(self.marks))
        return np.asarray(times.astype(np.float32) @ self.marks, np.float64)

    def redraw(self, random: np.random.Generator, draws: int) -> Floats:
        """The bins of all rows of these entities, drawn again, [draws, bins]."""
        entity, rows = self._substitutes(random, self.sizes, 1.0, draws)
        times = times_chosen(entity, rows, len(self.sizes))
        return np.asarray(times @ (self.counts / self.sizes[:, None]))

    def _substitutes(self, random: np.random.Generator, profile: Ints, rate: float, draws: int) -> tuple[Ints, Ints]:
        """Entities that stand for those of a profile, [draws, entities], and how many rows each gives, [entities].

        An entity with k rows at a sampling rate may be any of the reference, with the probability that a Poisson
        variable of its expected rows equals k.
        """
        chosen, rows = [], []
        for k, count in zip(*np.unique(profile, return_counts=True), strict=True):
            weight = k * np.log(rate * self.sizes) - rate * self.sizes
            odds = np.cumsum(np.exp(weight - weight.max()))
            indices = np.searchsorted(odds / odds[-1], random.random((draws, count)), side="right")
            chosen.append(np.minimum(indices, len(odds) - 1))
            rows.append(np.full(count, k))
        return np.concatenate(chosen, axis=1), np.concatenate(rows)


@dataclass(frozen=True)
class Histograms:
    """Adjacent histograms: how many bins each has, and how many rows the reference and the sample have."""

    widths: Ints
    reference_rows: int
    sample_rows: int

    @property
    def firsts(self) -> Ints:
        return np.asarray(np.cumsum(self.widths) - self.widths)

    def shares(self, counts: Floats) -> Floats:
        """Counts as shares of their column, [..., bins]."""
        sums = np.add.reduceat(counts, self.firsts, axis=-1)
        return np.asarray(counts / np.repeat(np.maximum(sums, 1e-12), self.widths, axis=-1))

    def reference(self, counts: Floats, redrawn: Floats, share: float) -> Floats:
        """The reference's counts, with the variation of clusters of which it holds a share, [draws, bins].

        counts: the clusters' counts, [c, bins]; redrawn: their sums, drawn again, [draws, bins]
        """
        base = self.shares(counts.sum(axis=0))
        varied = np.maximum(base + (self.shares(redrawn) - base) * np.sqrt(share), 0.0)
        return np.asarray(varied * self.reference_rows)

    def mixed(self, random: np.random.Generator, counts: Floats, profile: Ints, draws: int) -> Floats:
        """The bins of samples from random clusters [c, bins] that give so many rows each, [draws, bins].

        For clusters with far more rows than are drawn from them.
        """
        sizes = counts[:, : self.widths[0]].sum(axis=1)
        chosen = random.choice(len(counts), (draws, len(profile)), p=sizes / sizes.sum())
        weight = times_chosen(chosen, profile / profile.sum(), len(counts))
        return self.rows(random, weight @ self.shares(counts), self.sample_rows)

    def rows(self, random: np.random.Generator, shares: Floats, rows: int) -> Floats:
        """The bins of so many independent rows, [draws, bins], from shares [draws, bins]."""
        parts = np.split(shares, self.firsts[1:], axis=1)
        drawn = [random.multinomial(rows, part / part.sum(axis=1, keepdims=True)) for part in parts]
        return np.concatenate(drawn, axis=1).astype(np.float64)

    def psi(self, one: Floats, other: Floats) -> Floats:
        """The PSI between counts [draws, bins] of each column, [draws, k]; as `distance.divergence`."""
        p, q = self.shares(one + 0.5), self.shares(other + 0.5)
        return np.asarray(np.add.reduceat((p - q) * np.log(p / q), self.firsts, axis=1))


def times_chosen(chosen: Ints, weights: NDArray[Any] | None, total: int) -> NDArray[Any]:
    """How often each of `total` items was chosen in each draw [draws, ...], or its weights' sum, [draws, total]."""
    flat = (chosen + np.arange(len(chosen))[:, None] * total).ravel()
    spread = None if weights is None else np.broadcast_to(weights, chosen.shape).ravel()
    return np.bincount(flat, spread, minlength=len(chosen) * total).reshape(len(chosen), total)
