"""The saving in words, also for results that do not say themselves what decided."""

from __future__ import annotations

from typing import Any

import pytest

from autokv.report import view
from autokv.report.headline import NO_HELP, first_line, headline, served, share
from autokv.tuning.trial import TuningResult


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (0.25, "A quarter of the bytes"),
        (0.26, "A quarter of the bytes"),
        (0.5, "Half the bytes"),
        (1 / 3, "A third of the bytes"),
        (0.29, "3.4× fewer bytes"),
        (0.05, "20× fewer bytes"),
        (0.9, "1.1× fewer bytes"),
        (1.0, "No fewer bytes"),
    ],
)
def test_a_share_in_words(ratio: float, words: str) -> None:
    assert share(ratio) == words


def comparison(new: dict[str, Any], old: dict[str, Any], fit: float = 2.93) -> dict[str, Any]:
    """A comparison's document, as far as a headline reads it."""
    usual = {"goodput_requests_per_s": 1.0, "max_rate": None, "tpot_ms": {"p50": 100.0}}
    return {
        "runs": [{"name": "K4V4", **usual, **new}, {"name": "16-bit", **usual, **old}],
        "gains": {"16-bit": {"concurrent_requests": fit}},
    }


@pytest.mark.parametrize(
    ("new", "old", "words"),
    [
        ({"goodput_requests_per_s": 1.85}, {}, "2.9× as many requests at once, goodput +85%"),
        ({"goodput_requests_per_s": 2.0}, {"goodput_requests_per_s": 0.0}, "goodput 2.00 instead of 0 requests/s"),
        ({"max_rate": {"requests_per_s": 3.0}}, {"max_rate": {"requests_per_s": 2.0}}, "sustained rate +50%"),
        ({"tpot_ms": {"p50": 80.0}}, {}, "time per output token -20%"),
        ({"goodput_requests_per_s": 1.04}, {}, NO_HELP),
        ({"goodput_requests_per_s": 0.5, "tpot_ms": {"p50": 124.0}}, {}, NO_HELP),
        ({"goodput_requests_per_s": None, "tpot_ms": {}}, {"goodput_requests_per_s": None, "tpot_ms": {}}, NO_HELP),
    ],
)
def test_what_serving_gains(new: dict[str, Any], old: dict[str, Any], words: str) -> None:
    found = served(comparison(new, old))
    assert found.endswith(words)
    assert found == NO_HELP or found.startswith("2.9× as many requests at once, ")


def test_an_older_result_is_read_for_what_it_gained(result: TuningResult, job: dict[str, Any]) -> None:
    point = view.recommended(result)
    assert point is not None
    job["serving"] = {"comparison": comparison({"goodput_requests_per_s": 1.85}, {})}
    assert headline(result, point, job) == "2.9× as many requests at once, goodput +85%"
    assert first_line(result, job) == "chosen for the fewest bytes per token"
    job["serving"]["predicted"] = "scaled from another device"
    assert first_line(result, job) == "chosen for the fewest bytes per token, predicted, unvalidated"
    job["serving"]["comparison"]["verdict"] = "predicted from kernel tables: compared with the 16-bit cache: more"
    assert first_line(result, job) == "chosen for the fewest bytes per token, predicted from kernel tables"
