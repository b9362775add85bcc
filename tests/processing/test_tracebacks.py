"""Unexpected errors are reported by type and place only: their text may contain a card number."""

import json
import time

import pytest
import structlog

from processing.errors import BadInput
from processing.tracebacks import error_summary, redacted_traceback
from serving.logs import configure

CARD = "4111111111111111"


def raised_error(*, chained: bool) -> Exception:
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
def test_an_error_is_summarised_by_type_and_place_without_values(chained: bool) -> None:
    error = raised_error(chained=chained)
    assert error_summary(error).startswith(
        f"{'KeyError' if chained else 'ValueError'} at tests/processing/test_tracebacks.py:"
    )
    trace = redacted_traceback(error)
    assert CARD not in error_summary(error) + trace
    assert trace.count("Traceback (most recent call last):") == 1 + chained
    assert "ValueError at tests/processing/test_tracebacks.py:" in trace
    assert "in raised_error" in trace


def test_the_projects_own_errors_keep_their_text() -> None:
    assert error_summary(BadInput("march.csv has no column 'amount'")) == "march.csv has no column 'amount'"


def test_the_api_log_contains_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    try:
        structlog.get_logger().error("request_failed", exc_info=raised_error(chained=True))
    finally:
        structlog.reset_defaults()
    output, ends = "", time.monotonic() + 30
    while not output and time.monotonic() < ends:  # a thread writes it
        time.sleep(0.01)
        output = capsys.readouterr().out
    line = json.loads(output)
    assert "KeyError at tests/processing/test_tracebacks.py:" in line["exception"]
    assert CARD not in json.dumps(line)
