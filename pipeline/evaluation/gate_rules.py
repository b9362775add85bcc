"""The gate's rules, and their limits."""

from dataclasses import dataclass

from pipeline.definition import defaults
from processing.errors import BadInput


@dataclass(frozen=True)
class GateRules:
    """What the gate requires of a challenger. Raises BadInput for a value out of range.

    floor: the lowest average precision that may serve
    confidence: of the statement that the challenger is no worse, above 0.5 and below 1
    margin: how much worse it may be and still count as no worse, from 0; see `pipeline.evaluation.gate`
    forced_by: who wants the model to serve whatever the gate decides; empty for nobody
    lookback_days: the challenger is compared with versions that served in so many past days; 0: only with the champion
    """

    floor: float = defaults.MIN_AVERAGE_PRECISION
    confidence: float = defaults.CONFIDENCE_LEVEL
    margin: float = defaults.NON_INFERIORITY_MARGIN
    forced_by: str = ""
    lookback_days: int = defaults.LOOKBACK_DAYS

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence < 1.0:
            raise BadInput(f"ConfidenceLevel is {self.confidence:g}, expected above 0.5 and below 1, e.g. 0.95")
        for name, value in (("MinAveragePrecision", self.floor), ("NonInferiorityMargin", self.margin)):
            if not 0.0 <= value <= 1.0:
                raise BadInput(f"{name} is {value:g}, expected 0 to 1")
        if self.lookback_days < 0:
            raise BadInput(f"LookbackDays is {self.lookback_days}, expected 0 or more")
