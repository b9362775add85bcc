"""A transformer that bins features and keeps their tails sharp. It comes before the gradient boosting."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from processing.arrays import Floats

MOST_CUTS = 254  # HistGradientBoosting distinguishes at most 255 bins, and n cuts make n + 1 bins


class TailBinner(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Replace every value by the number of its bin, with narrow bins at both ends of each feature.

    Histogram gradient boosting cuts a feature into at most 255 bins of equal frequency. The last bin then treats
    the top 0.4 % of all rows as equal, and in rare-event problems such as fraud the events are right there. This
    transformer places a share of the cut points at quantiles spaced evenly in the logit of the cumulative
    frequency, ..., 1:9, 1:99, 1:999, ..., which resolves both tails down to single rows, and the other cut points at
    quantiles of equal frequency. A feature with at most `max_cuts` + 1 distinct values gets a cut between any two
    of them and loses nothing.

    A code counts the cuts strictly below a value, ``np.searchsorted(cuts_[j], x, side="left")``. So ``code <= k``
    means the same as ``x <= cuts_[j][k]``: a tree's threshold ``t`` on codes is the threshold ``cuts_[j][floor(t)]``
    on raw values, with the same side for equality. If ``floor(t)`` is not an index of ``cuts_[j]``, every value goes
    left. NaN stays NaN.

    Parameters
    ----------
    max_cuts : int, default=254
        Most cut points per feature; `HistGradientBoostingClassifier` can use up to 254.
    tail_share : float, default=0.5
        Share of the cut points placed at logit-spaced quantiles, from 0 to 1.

    Attributes
    ----------
    cuts_ : list of ndarray of float64
        The cut points of each feature, strictly increasing; empty for a feature with a single value.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of str
        Their names, if `X` had any.

    Notes
    -----
    Equal-frequency binning and its limit of 255: G. Ke et al., "LightGBM: A Highly Efficient Gradient Boosting
    Decision Tree", NeurIPS 2017, and scikit-learn's user guide, "Histogram-Based Gradient Boosting". Quantiles
    spaced by the logit are the idea of the t-digest's scale function k2: T. Dunning, "The t-digest:
    Efficient estimates of distributions", Software Impacts 7, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from pipeline.estimators.binner import TailBinner
    >>> X = np.array([[1.0], [2.0], [2.0], [10.0], [np.nan]])
    >>> binner = TailBinner().fit(X)
    >>> binner.cuts_
    [array([1.5, 6. ])]
    >>> binner.transform([[0.0], [1.5], [1.6], [99.0], [np.nan]]).ravel()
    array([ 0.,  0.,  1.,  2., nan])

    Into how many bins do the 400 largest of 100,000 values fall, without and with narrow bins at the ends?

    >>> X = np.arange(100_000.0).reshape(-1, 1)
    >>> [len(np.unique(TailBinner(tail_share=share).fit_transform(X)[-400:])) for share in (0.0, 0.5)]
    [2, 29]
    """

    cuts_: list[Floats]
    empty_: NDArray[np.bool_]

    def __init__(self, max_cuts: int = MOST_CUTS, tail_share: float = 0.5) -> None:
        self.max_cuts = max_cuts
        self.tail_share = tail_share

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 (scikit-learn's name)
        """Find the cut points of every feature of `X`, [n, m] numbers, ignoring NaN. `y` is ignored.

        Raises ValueError for a parameter out of range.
        """
        if self.max_cuts < 1:
            raise ValueError(f"max_cuts is {self.max_cuts!r}, expected at least 1")
        if not 0.0 <= self.tail_share <= 1.0:
            raise ValueError(f"tail_share is {self.tail_share!r}, expected 0 to 1")
        values = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        tail_cuts = round(self.max_cuts * self.tail_share)
        self.empty_ = np.isnan(values).all(axis=0)
        self.cuts_ = [_cuts(column, tail_cuts, self.max_cuts - tail_cuts) for column in values.T]
        return self

    def transform(self, X: Any) -> Floats:  # noqa: N803
        """The bin codes of `X`, [n, m] float64: whole numbers from 0 to `max_cuts`, and NaN for NaN.

        A feature without any value in training is 0 in every row: nothing was learnt about it, and
        HistGradientBoostingClassifier (1.9) fails on a column that is all NaN.
        """
        check_is_fitted(self)
        values = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        codes = np.empty(values.shape, np.float64)
        for j, cuts in enumerate(self.cuts_):
            codes[:, j] = np.searchsorted(cuts, values[:, j], side="left")
        codes[np.isnan(values) & ~self.empty_] = np.nan
        codes[:, self.empty_] = 0.0
        return codes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _cuts(column: Floats, tail_cuts: int, even_cuts: int) -> Floats:
    """The cut points of one feature, at most `tail_cuts` + `even_cuts`, strictly increasing."""
    ordered = np.sort(column[~np.isnan(column)])
    ends = np.flatnonzero(ordered[1:] > ordered[:-1])  # last index of every distinct value but the largest
    rows = len(ordered)
    if len(ends) > tail_cuts + even_cuts:
        reach = np.log(rows - 1.0)  # the logit of the cumulative frequency of all rows but one
        tails = 1.0 / (1.0 + np.exp(-np.linspace(-reach, reach, tail_cuts)))
        even = np.arange(1, even_cuts + 1) / (even_cuts + 1)
        positions = np.rint(np.concatenate((tails, even)) * rows).astype(np.int64) - 1
        # A quantile inside a run of equal values can only cut at the run's end, and the largest value's run has none.
        targets = np.searchsorted(ends, np.maximum(positions, 0), side="left")
        ends = ends[np.unique(targets[targets < len(ends)])]
    below, above = ordered[ends], ordered[ends + 1]
    middle = below / 2 + above / 2  # halved first: the sum of two large values could overflow
    cuts: Floats = np.where((middle >= below) & (middle < above), middle, below)  # adjacent floats have no middle
    return cuts
