"""Drift in service: the transactions scored since a time, compared with the reference of the serving model.

    python3 -m pipeline.evaluation.drift --home H [--since TIME] [--embed]

The online store keeps the features and the score of every decision, so nothing is computed again. For every feature and
for the score, the measures of `pipeline.evaluation.distance` are compared, and the share of alerts. Labels come late;
drift is what can be known earlier. A figure counts as drift only if it is beyond what chance alone produces for any
feature in a sample like this one (`pipeline.evaluation.chance`).
"""

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pipeline.evaluation.chance import LEVEL
from pipeline.evaluation.distance import LARGE_PSI, MEASURES, MODERATE_PSI
from pipeline.evaluation.drift_metrics import TOO_FEW, embedded_metrics
from pipeline.evaluation.feature_strength import CALENDAR
from pipeline.evaluation.histogram import bin_counts
from pipeline.evaluation.model_reference import REFERENCE_FILE, SCORE, chance_of
from pipeline.evaluation.recorded_decisions import latest_decisions
from pipeline.evaluation.reference_sample import PARTS
from pipeline.registry.registry import Registry
from processing.contracts import reader as contracts
from processing.durations import DAY_US
from processing.errors import BadInput, FraudlineError, NotFound, report
from processing.features.entity_keys import EntityKeys
from processing.storage.home import Home
from processing.storage.open import open_home
from processing.store.decisions import Decision

FEWEST = 50  # decisions needed to say anything
FEWEST_ALERTS = 200  # decisions needed to state the share of alerts
FEWEST_UNSAMPLED = 5_000  # decisions needed if the reference, of an earlier version, cannot say what chance does
PERIOD_US = DAY_US // PARTS


def measure_drift(home: Home, since: datetime | None = None) -> dict[str, Any]:
    """The drift of the decisions since a time (by default the serving model's promotion); see `drift_of`.

    Raises BadInput if no model serves, if it has no reference, or if the contract records no decisions, and
    StoreUnavailable.
    """
    registry = Registry(home)
    latest = registry.latest()
    if latest is None:
        raise BadInput(f"no model serves in {home.url}, so there is no reference; `fraudline run` trains one")
    published = registry.open(latest.version, latest)
    try:
        reference = published.document(REFERENCE_FILE)
    except NotFound:
        raise BadInput(
            f"model {latest.version} has no {REFERENCE_FILE}; `fraudline run` trains a model that has one"
        ) from None
    contract = contracts.of_home(home)
    start = since or datetime.fromisoformat(latest.promoted_at)
    decisions = latest_decisions(home, contract, start)
    names = published.manifest["features"]
    comparable = _of_features(registry, decisions, names)
    return drift_of(comparable, reference, names, latest.version, start, EntityKeys(contract))


def _of_features(registry: Registry, decisions: Sequence[Decision], names: Sequence[str]) -> list[Decision]:
    """The decisions of models with these features. A model of an earlier contract may have others, even as many."""

    @functools.cache
    def has_them(version: str) -> bool:
        try:
            return bool(registry.open(version).manifest["features"] == names)
        except FraudlineError:  # it is gone; `drift_of` compares how many features there are
            return True

    return [decision for decision in decisions if has_them(decision.model_version)]


def drift_of(
    decisions: Sequence[Decision],
    reference: Mapping[str, Any],
    names: Sequence[str],
    version: str,
    since: datetime,
    entity_keys: EntityKeys,
) -> dict[str, Any]:
    """The drift of decisions against a version's reference; JSON-ready.

    {"version", "since", "decisions", "scored_by_it", "enough" (for any statement), "level" (the share of samples in
    which chance alone takes any figure beyond its limit), "sampled" (whether the reference can say what chance does),
    "limits": {"moderate", "large"} of PSI, "measures": {key: label}, "alerts": {"reference", "now"}, "features": {name:
    {"psi", "ks", "chance", "p", "beyond_chance", "level"}}, largest first, "score": {...} or None, "too_few": the names
    for which there are too few decisions, "feature_drift", "score_drift"}.

    Features are those of all decisions, whichever model made them; score and alerts only those of this version.
    `chance` is the PSI that chance alone exceeds for any figure in a share `level` of samples like this one, and `p`
    how often it takes any figure as far as this one. A figure counts as drift if it is `beyond_chance`. Its level is
    small, moderate or great, or "too few" (decisions) if even a large PSI could not be told from chance.
    """
    decisions = [one for one in decisions if len(one.features) == 8 * len(names)]  # of the same features
    X = np.array([np.frombuffer(one.features, "<f8") for one in decisions]).reshape(-1, len(names))  # noqa: N806
    own = [one for one in decisions if one.model_version == version]
    known = reference["features"]
    columns = [(name, X[:, j]) for j, name in enumerate(names) if name not in CALENDAR and name in known and len(X)]
    features = _figures(reference, decisions, columns, entity_keys)
    scores = [(SCORE, np.array([one.score for one in own]))] if own else []
    score = _figures(reference, own, scores, entity_keys).get(SCORE)
    figures = features | ({SCORE: score} if score else {})
    alerts = sum(one.score >= one.threshold for one in own)
    return {
        "version": version,
        "since": since.isoformat(),
        "decisions": len(decisions),
        "scored_by_it": len(own),
        "enough": any(one["level"] != TOO_FEW for one in figures.values()),
        "level": LEVEL,
        "sampled": "sample" in reference,
        "limits": {"moderate": MODERATE_PSI, "large": LARGE_PSI},
        "measures": {key: measure.label for key, measure in MEASURES.items()},
        "alerts": {
            "reference": reference["alerts"],
            "now": alerts / len(own) if len(own) >= FEWEST_ALERTS else None,
        },
        "features": dict(sorted(features.items(), key=lambda item: -item[1]["psi"])),
        SCORE: score,
        "too_few": [name for name, one in figures.items() if one["level"] == TOO_FEW],
        "feature_drift": max((one["psi"] for one in features.values() if one["beyond_chance"]), default=0.0),
        "score_drift": score["psi"] if score and score["beyond_chance"] else 0.0,
    }


def _figures(
    reference: Mapping[str, Any],
    decisions: Sequence[Decision],
    columns: Sequence[tuple[str, Any]],
    entity_keys: EntityKeys,
) -> dict[str, dict[str, Any]]:
    """The figures of some columns of the decisions, by name."""
    if not columns:
        return {}
    known = [reference[SCORE] if name == SCORE else reference["features"][name] for name, _ in columns]
    counts = [bin_counts(values, one["edges"]) for one, (_, values) in zip(known, columns, strict=True)]
    distances = [
        {key: measure.distance(one["counts"], own) for key, measure in MEASURES.items()}
        for one, own in zip(known, counts, strict=True)
    ]
    psi = np.array([one["psi"] for one in distances])
    entities = list(zip(*(entity_keys.of(one.event.keys) for one in decisions), strict=True))
    periods = [one.event.time_us // PERIOD_US for one in decisions]
    # The features are one family of figures, the score another: each gets half of the level.
    chance = chance_of(reference, [name for name, _ in columns], entities, periods, level=LEVEL / 2)
    limits = chance.limits if chance else np.full(len(psi), np.nan)
    p = np.minimum(2 * chance.p_values(psi), 1.0) if chance else limits
    return {
        name: _figure(distances[i], float(limits[i]), float(p[i]), len(decisions))
        for i, (name, _) in enumerate(columns)
    }


def _figure(distances: Mapping[str, float], limit: float, p: float, decisions: int) -> dict[str, Any]:
    psi, sampled = distances["psi"], not np.isnan(limit)
    beyond = decisions >= (FEWEST if sampled else FEWEST_UNSAMPLED) and not psi <= limit
    level = "small"
    if beyond:
        level = "great" if psi >= LARGE_PSI else "moderate" if psi >= MODERATE_PSI else "small"
    elif decisions < FEWEST or not limit < LARGE_PSI:
        level = TOO_FEW
    by_chance = {"chance": limit, "p": p} if sampled else {"chance": None, "p": None}
    return {**distances, **by_chance, "beyond_chance": beyond, "level": level}


def above(drift: Mapping[str, Any], limit: float) -> list[str]:
    """The names of what has a PSI above a limit and beyond chance."""
    over = [name for name, one in drift["features"].items() if one["beyond_chance"] and one["psi"] > limit]
    return over + ([SCORE] if drift["score_drift"] > limit else [])


def undecided(drift: Mapping[str, Any], limit: float) -> list[str]:
    """The names for which there are too few decisions to say whether the PSI is above a limit."""
    figures = drift["features"] | ({SCORE: drift[SCORE]} if drift[SCORE] else {})
    return [
        name
        for name, one in figures.items()
        if not one["beyond_chance"] and (one["level"] == TOO_FEW or (one["chance"] or 0.0) > limit)
    ]


def parse_since(text: str | None) -> datetime | None:
    """A time in ISO 8601, in UTC unless it has a zone. Raises BadInput."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--since {text}: expected a time such as 2026-07-01 or 2026-07-01T12:00") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the drift as JSON; the cloud runs this daily from the image. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m pipeline.evaluation.drift")
    parser.add_argument("--home", required=True, help="address of the home")
    parser.add_argument("--since", help="start time; default: the serving model's promotion")
    parser.add_argument("--embed", action="store_true", help="also print the metrics for CloudWatch to read")
    options = parser.parse_args(arguments)
    try:
        drift = measure_drift(open_home(options.home), parse_since(options.since))
        print(json.dumps(drift))
        if options.embed:
            print(json.dumps(embedded_metrics(drift, datetime.now(UTC))))
    except FraudlineError as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
