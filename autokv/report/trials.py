"""``trials.csv``: one row per trial, for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autokv.evaluation.metrics import METRICS
from autokv.report import view
from autokv.tuning.trial import TrialRecord

LEADING = ("number", "state", "source", "digest")
TRAILING = ("reason", "seconds")
PARAMETER = "params."
"""Opens a parameter's column, so that it cannot be mistaken for a metric's."""


def trials_csv(trials: Sequence[TrialRecord]) -> str:
    """The trials as CSV (RFC 4180): means of every metric, flattened parameters; empty where there is no value."""
    rows = [_row(trial) for trial in trials]
    parameters = sorted({name for row in rows for name in row if name.startswith(PARAMETER)})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*LEADING, *METRICS, *parameters, *TRAILING], restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def finite(document: object) -> object:
    """A copy of a JSON document in which NaN and infinities are ``None``."""
    if isinstance(document, dict):
        return {str(key): finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    if isinstance(document, float) and not math.isfinite(document):
        return None
    return document


def _row(trial: TrialRecord) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state,
        "source": trial.source,
        "digest": trial.config.digest if trial.config else "",
        **{name: view.mean(trial.measurement, name) for name in METRICS},
        **{f"{PARAMETER}{name}": value for name, value in _flat(trial.params)},
        "reason": trial.reason or "",
        "seconds": trial.seconds,
    }


def _flat(params: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", json.dumps(finite(value)) if isinstance(value, list | tuple) else value
