"""Errors that nobody expected are told by type and place: what they say may be somebody's card number."""

import json
import time

import pytest
import structlog

from processing.errors import BadInput
from processing.tracebacks import error_summary, redacted_traceback
from serving.logs import configure

CARD = "4111111111111111"


def raised(*, chained: bool) -> Exception:
    try:
        try:
            int(f"{CARD}x")
        except ValueError as error:
            if chained:
                raise KeyError(CARD) from error
            raise
    except (ValueError, KeyError) as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("chained", [False, True])
def test_type_and_place_are_told_and_no_value(chained: bool) -> None:
    error = raised(chained=chained)
    assert error_summary(error).startswith(
        f"{'KeyError' if chained else 'ValueError'} at tests/processing/test_tracebacks.py:"
    )
    trace = redacted_traceback(error)
    assert CARD not in error_summary(error) + trace
    assert trace.count("Traceback (most recent call last):") == 1 + chained
    assert "ValueError at tests/processing/test_tracebacks.py:" in trace
    assert "in raised" in trace


def test_our_own_errors_say_what_they_say() -> None:
    assert error_summary(BadInput("march.csv has no column 'amount'")) == "march.csv has no column 'amount'"


def test_the_log_of_the_api_tells_no_value_either(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    try:
        structlog.get_logger().error("request_failed", exc_info=raised(chained=True))
    finally:
        structlog.reset_defaults()
    said, ends = "", time.monotonic() + 30
    while not said and time.monotonic() < ends:  # it is written by a thread
        time.sleep(0.01)
        said = capsys.readouterr().out
    line = json.loads(said)
    assert "KeyError at tests/processing/test_tracebacks.py:" in line["exception"]
    assert CARD not in json.dumps(line)
