"""The files of a finished search, written all together or not at all."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from autokv.config import ConfigurationDocument
from autokv.errors import StorageError
from autokv.evaluation.metrics import METRICS
from autokv.files import write_atomic
from autokv.report import view
from autokv.report.front_chart import front_svg
from autokv.report.page import page
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

RECOMMENDED = "recommended.json"
LARGEST = 2.0**53
"""Up to which floats hold every whole number."""
LEADING = ("number", "state", "source", "digest")
TRAILING = ("reason", "seconds")
PARAMETER = "params."
"""Opens a parameter's column, so that it cannot be mistaken for a metric's."""
_finite = partial(to_jsonable_python, inf_nan_mode="null")
"""JSON has neither NaN nor infinities."""


def write_results(
    directory: str | Path,
    *,
    result: TuningResult,
    documents: Mapping[str, ConfigurationDocument],
    job: Mapping[str, Any],
) -> dict[str, Path]:
    """Write ``pareto.json``, ``trials.csv``, ``front.svg``, ``report.html``, and what there is of ``request.yaml`` and
    ``recommended.json``.

    Everything is written to a folder beside its place first; only when all of it has reached the disk do the files
    take their names, ``recommended.json`` last. One that an earlier run left goes first, so that the file is there
    only if this run recommends it.

    Args:
        directory: where to; created if missing.
        result: the finished search.
        documents: digest to document, at least for the recommended one.
        job: facts for the report; every key may be missing. ``id``, ``finished`` (a date), ``seconds``; ``request``
            (as :class:`~autokv.tuning.request.TuningRequest`, in a mapping), ``submission`` (of a server's job);
            and mappings that are printed as they are: ``model``, ``hardware``, ``workload``, ``contexts``,
            ``baselines``, ``versions``. ``serving`` and ``scenario`` say how the workload was served and what decided
            the search.

    Returns:
        File name to path.

    Raises:
        StorageError: a file cannot be written; what was there before is untouched.
    """
    directory = Path(directory)
    contents: dict[str, str] = {
        "pareto.json": json.dumps(_finite(pareto(result)), indent=2) + "\n",
        "trials.csv": trials_csv(result.trials),
        "front.svg": front_svg(result, view.limits(job)),
        "report.html": page(result, job),
    }
    if "request" in job:
        contents["request.yaml"] = request_yaml(job["request"], job.get("submission"))
    if result.recommended is not None:
        contents[RECOMMENDED] = documents[result.recommended].model_dump_json(indent=2) + "\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".results-", dir=directory))
    except OSError as error:
        raise _refused(directory, error) from None
    try:
        for name, text in contents.items():
            _stage(staging / name, directory / name, text)
        return _publish(staging, directory, list(contents))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def request_yaml(request: Mapping[str, Any], submission: Mapping[str, Any] | None) -> str:
    """What was asked, as a file of the command that asks it again; empty fields are left out."""
    command = "autokv tune" if submission is None else "autokv jobs submit"
    asked = request if submission is None else submission
    fields = {name: value for name, value in asked.items() if value is not None and value != {}}
    return f"# {command} request.yaml\n" + yaml.safe_dump(_whole(fields), sort_keys=False, allow_unicode=True)


def _whole(value: Any) -> Any:  # noqa: ANN401 - of every kind
    """``value`` with whole numbers as people write them: ``60000000``, not ``60000000.0``."""
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST else value


def pareto(result: TuningResult) -> list[dict[str, Any]]:
    """The front as JSON: the objects of ``autokv evaluate --json``, with their confirmation and their roles."""
    called = view.roles(result)
    return [_front_point(point, called.get(point.calibration.config.digest, ())) for point in result.front]


def _front_point(point: FrontPoint, roles: tuple[str, ...]) -> dict[str, Any]:
    validation = None
    if point.validation is not None:
        found = point.validation.to_dict()
        validation = {"metrics": found["metrics"], "samples": found["samples"]}
    return {
        **point.calibration.to_dict(),
        "validation": validation,
        "trial": point.trial,
        "source": point.source,
        "feasible": point.feasible,
        "roles": list(roles),
    }


def trials_csv(trials: Sequence[TrialRecord]) -> str:
    """The trials as CSV (RFC 4180): means of every metric, flattened parameters; empty where there is no value."""
    rows = [_row(trial) for trial in trials]
    parameters = sorted({name for row in rows for name in row if name.startswith(PARAMETER)})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*LEADING, *METRICS, *parameters, *TRAILING], restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


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
            yield f"{path}{key}", json.dumps(_finite(value)) if isinstance(value, list | tuple) else value


def _stage(staged: Path, final: Path, text: str) -> None:
    """Write a file under its temporary name; an error speaks of the name that the user knows."""
    try:
        write_atomic(staged, text.encode("utf-8", "replace"))
    except StorageError as error:
        raise StorageError(error.message, field=str(final), remedy=error.remedy) from None


def _publish(staging: Path, directory: Path, names: list[str]) -> dict[str, Path]:
    paths = {name: directory / name for name in names}
    for path in paths.values():
        if path.is_dir():
            raise StorageError("is a folder", field=str(path), remedy="move it away or choose another folder")
    try:
        (directory / RECOMMENDED).unlink(missing_ok=True)
        for name, path in paths.items():
            (staging / name).replace(path)
    except OSError as error:
        raise _refused(directory, error) from None
    return paths


def _refused(directory: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot be written to ({error.strerror})", field=str(directory), remedy="choose another folder"
    )
