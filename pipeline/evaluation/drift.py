"""Drift in service: what was scored since, held against the reference of the model that serves.

    python3 -m pipeline.evaluation.drift --home H [--since TIME] [--embed]

The online store keeps the features and the score of every decision, so that nothing is computed again. Compared are
the population stability index (PSI) and the Kolmogorov-Smirnov distance of every feature and of the score, and the
share of alerts. Labels come late; drift is what can be known before. The limits of PSI are Siddiqi's, as in
`pipeline.evaluation.checks`; but a figure counts as drift only if it is beyond what chance makes of a sample like this
one, whichever of all features that may be (`pipeline.evaluation.chance`).

For an alarm two metrics are published in CloudWatch, namespace `Fraudline`, dimension service=fraudline-drift:
`FeatureDrift` (the greatest PSI of a feature that is beyond chance, else 0) and `ScoreDrift` (that of the score). An
alarm on either above 0.25 says that the model meets transactions it was not measured on.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pipeline.evaluation.chance import LEVEL, PARTS
from pipeline.evaluation.reference import CALENDAR, REFERENCE_FILE, SCORE, chance_of, counts, divergence, ks
from pipeline.metric_names import DRIFT_SERVICE, NAMESPACE
from pipeline.registry.registry import Registry
from processing.contracts import reader as contracts
from processing.errors import BadInput, FraudlineError, NotFound, report
from processing.features.windows import DAY_US
from processing.storage.home import Home
from processing.storage.open import open_home
from processing.store.decisions import Decision
from processing.store.open import open_store

FEATURE_METRIC, SCORE_METRIC = "FeatureDrift", "ScoreDrift"
PSI_SMALL, PSI_GREAT = 0.1, 0.25
TOO_FEW = "too few"
FEWEST = 50  # decisions that say anything
FEWEST_ALERTS = 200  # decisions that say what share of them are alerts
FEWEST_UNSAMPLED = 5_000  # decisions, where a reference of earlier versions cannot say what chance does
PERIOD_US = DAY_US // PARTS
MOST = 50_000  # of the latest decisions that are read


def measure_drift(home: Home, since: datetime | None = None) -> dict[str, Any]:
    """What was decided since a time (the serving model's promotion) against its reference; see `drift_of`.

    Raises BadInput if no model serves, if it has no reference, or if the contract records no decisions, and
    StoreUnavailable.
    """
    registry = Registry(home)
    latest = registry.latest()
    if latest is None:
        raise BadInput(
            f"no model serves in {home.url}, so there is no reference to compare with; `fraudline run` first"
        )
    served = registry.open(latest.version, latest)
    try:
        reference = served.document(REFERENCE_FILE)
    except NotFound:
        raise BadInput(f"model {latest.version} has no {REFERENCE_FILE}; the model of the next run will") from None
    contract = contracts.of_home(home)
    if not contract.entities:
        raise BadInput(f"the contract {contract.name!r} has no entities, so the API records no decisions to look at")
    start = since or datetime.fromisoformat(latest.promoted_at)
    store = open_store(home, contract, timeout=30.0)
    try:
        decisions = store.decisions(MOST, since=start)
    finally:
        store.close()
    return drift_of(decisions, reference, served.manifest["features"], latest.version, start)


def drift_of(
    decisions: Sequence[Decision], reference: Mapping[str, Any], names: Sequence[str], version: str, since: datetime
) -> dict[str, Any]:
    """Decisions against a version's reference; JSON-ready.

    {"version", "since", "decisions", "scored_by_it", "enough" (for a statement), "level" (how often chance takes any
    figure beyond its own), "sampled" (whether the reference can say what chance does), "alerts": {"reference", "now"},
    "features": {name: {"psi", "ks", "chance", "p", "beyond_chance", "level"}}, greatest first, "score": {...} or None,
    "too_few": the names that it is too few for, "feature_drift", "score_drift"}.

    Features are those of all decisions, whichever model made them; score and alerts those of this version alone.
    `chance` is the PSI that chance reaches for no figure of a sample like this, but in one of 1/level of them, and `p`
    how often it takes any as far as this one. A figure counts for drift if it is `beyond_chance`; its level is small,
    moderate or great, or "too few" (decisions) where even a great PSI could not be told from chance.
    """
    decisions = [made for made in decisions if len(made.features) == 8 * len(names)]  # of the same features
    X = np.array([np.frombuffer(made.features, "<f8") for made in decisions]).reshape(-1, len(names))  # noqa: N806
    own = [made for made in decisions if made.model_version == version]
    known = reference["features"]
    columns = [(name, X[:, j]) for j, name in enumerate(names) if name not in CALENDAR and name in known and len(X)]
    features = _compared(reference, decisions, columns)
    scores = [(SCORE, np.array([made.score for made in own]))] if own else []
    score = _compared(reference, own, scores).get(SCORE)
    figures = features | ({SCORE: score} if score else {})
    return {
        "version": version,
        "since": since.isoformat(),
        "decisions": len(decisions),
        "scored_by_it": len(own),
        "enough": any(one["level"] != TOO_FEW for one in figures.values()),
        "level": LEVEL,
        "sampled": "sample" in reference,
        "alerts": {
            "reference": reference["alerts"],
            "now": sum(made.score >= made.threshold for made in own) / len(own) if len(own) >= FEWEST_ALERTS else None,
        },
        "features": dict(sorted(features.items(), key=lambda item: -item[1]["psi"])),
        SCORE: score,
        "too_few": [name for name, one in figures.items() if one["level"] == TOO_FEW],
        "feature_drift": max((one["psi"] for one in features.values() if one["beyond_chance"]), default=0.0),
        "score_drift": score["psi"] if score and score["beyond_chance"] else 0.0,
    }


def _compared(
    reference: Mapping[str, Any], decisions: Sequence[Decision], columns: Sequence[tuple[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The figures of some columns of decisions, by name."""
    if not columns:
        return {}
    known = [reference[SCORE] if name == SCORE else reference["features"][name] for name, _ in columns]
    now = [counts(values, one["edges"]) for one, (_, values) in zip(known, columns, strict=True)]
    psi = [divergence(one["counts"], own) for one, own in zip(known, now, strict=True)]
    entities = list(zip(*(made.event.keys for made in decisions), strict=True))
    periods = [made.event.time_us // PERIOD_US for made in decisions]
    # The features are one family of figures, the score another: each gets half of the level.
    chance = chance_of(reference, [name for name, _ in columns], entities, periods, level=LEVEL / 2)
    limits = chance.limits if chance else np.full(len(psi), np.nan)
    p = np.minimum(2 * chance.p_values(np.array(psi)), 1.0) if chance else limits
    return {
        name: _figure(psi[i], ks(known[i]["counts"], now[i]), float(limits[i]), float(p[i]), len(decisions))
        for i, (name, _) in enumerate(columns)
    }


def _figure(psi: float, distance: float, limit: float, p: float, decisions: int) -> dict[str, Any]:
    sampled = not np.isnan(limit)
    beyond = decisions >= (FEWEST if sampled else FEWEST_UNSAMPLED) and not psi <= limit
    level = "small"
    if beyond:
        level = "great" if psi >= PSI_GREAT else "moderate" if psi >= PSI_SMALL else "small"
    elif decisions < FEWEST or not limit < PSI_GREAT:
        level = TOO_FEW
    said = {"chance": limit, "p": p} if sampled else {"chance": None, "p": None}
    return {"psi": psi, "ks": distance, **said, "beyond_chance": beyond, "level": level}


def above(found: Mapping[str, Any], limit: float) -> list[str]:
    """What lies above a limit of PSI and is beyond chance, by name."""
    over = [name for name, one in found["features"].items() if one["beyond_chance"] and one["psi"] > limit]
    return over + ([SCORE] if found["score_drift"] > limit else [])


def unsaid(found: Mapping[str, Any], limit: float) -> list[str]:
    """For what the decisions are too few to say whether it lies above a limit of PSI, by name."""
    figures = found["features"] | ({SCORE: found[SCORE]} if found[SCORE] else {})
    return [
        name
        for name, one in figures.items()
        if not one["beyond_chance"] and (one["level"] == TOO_FEW or (one["chance"] or 0.0) > limit)
    ]


def metrics_of(found: Mapping[str, Any]) -> dict[str, float]:
    """The metrics, by name: those that there are decisions enough for."""
    values: dict[str, float] = {}
    if found["enough"]:
        values[FEATURE_METRIC] = found["feature_drift"]
        if found[SCORE] and found[SCORE]["level"] != TOO_FEW:
            values[SCORE_METRIC] = found["score_drift"]
    return values


def embedded(found: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The metrics as a log line that CloudWatch takes them from (embedded metric format)."""
    values = metrics_of(found)
    named = [{"Name": name, "Unit": "None"} for name in values]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["service"]], "Metrics": named}
    about = {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive] if values else []}
    return {"_aws": about, "service": DRIFT_SERVICE, **values}


def publish(found: Mapping[str, Any]) -> dict[str, float]:
    """Put the metrics into CloudWatch, as this module says; what was put. Nothing if there are too few decisions."""
    from botocore.exceptions import BotoCoreError, ClientError

    from processing.aws_client import client

    values = metrics_of(found)
    if values:
        dimensions = [{"Name": "service", "Value": DRIFT_SERVICE}]
        data = [
            {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": "None"}
            for name, value in values.items()
        ]
        try:
            client("cloudwatch").put_metric_data(Namespace=NAMESPACE, MetricData=data)
        except (BotoCoreError, ClientError) as error:
            raise FraudlineError(
                f"CloudWatch did not take the metrics: {error}; check AWS_REGION, the credentials, and that they allow "
                f"cloudwatch:PutMetricData for the namespace {NAMESPACE}"
            ) from error
    return values


def page_of(found: Mapping[str, Any]) -> bytes:
    """The comparison as one HTML file that needs nothing else."""
    from pipeline.evaluation.report import page

    return page("drift.html", found=found, small=PSI_SMALL, great=PSI_GREAT)


def since_of(text: str | None) -> datetime | None:
    """A time as a person writes it (ISO 8601, UTC unless it says otherwise). Raises BadInput."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--since {text}: expected a time such as 2026-07-01 or 2026-07-01T12:00") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def main(arguments: Sequence[str] | None = None) -> int:
    """The daily look in the cloud, from the image: prints the comparison as JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m pipeline.evaluation.drift")
    parser.add_argument("--home", required=True, help="address of the home")
    parser.add_argument("--since", help="a time; the serving model's promotion if it is not given")
    parser.add_argument("--embed", action="store_true", help="print the metrics too, for CloudWatch to take")
    given = parser.parse_args(arguments)
    try:
        found = measure_drift(open_home(given.home), since_of(given.since))
        print(json.dumps(found))
        if given.embed:
            print(json.dumps(embedded(found, datetime.now(UTC))))
    except FraudlineError as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
