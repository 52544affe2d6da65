"""``ServerLog``: what a real server's requests saw, read from a file that it or a load generator wrote."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autokv.errors import RequestError
from autokv.files import read_limited
from autokv.workload import WorkloadTrace

MODEL_NAMES = ("model", "model_id", "model_name", "served_model_name", "gen_ai.request.model")
"""What the model may be called, in a request or in a result file."""
MAX_BYTES = 1 << 30
FEWEST = 20
"""Requests below which no costs are fitted."""
NEAR_LIMIT, LONG = 0.95, 0.3
"""Within this share of the most requests in flight for this share of the time, a server was at its limit."""
NAMES: Mapping[str, tuple[str, ...]] = {
    "input": ("input_tokens", "input_toks", "prompt_tokens", "prompt_len", "input_len", "num_prompt_tokens"),
    "output": ("output_tokens", "output_toks", "completion_tokens", "output_len", "num_generation_tokens"),
    "arrival": ("queued_ts", "arrival_time", "arrival_s", "arrival", "start_time", "timestamp"),
    "first": ("first_token_ts", "first_token_time", "first_token_s"),
    "last": ("last_token_ts", "last_token_time", "finish_time", "finish_s", "end_time"),
    "ttft": ("ttft", "ttft_s", "time_to_first_token"),
    "itl": ("itl", "itls", "inter_token_latencies"),
    "e2e": ("e2e", "e2e_s", "latency", "e2e_latency"),
}
"""What columns may be called, by what they hold: times in seconds, on one clock; ``itl`` a list of gaps."""
TITLES = {
    "input": "number of input tokens",
    "output": "number of output tokens",
    "arrival": "time of arrival",
    "first": "time of the first token",
    "last": "time of the last token",
}
LISTS = {
    "input_lens": "input_len",
    "output_lens": "output_len",
    "start_times": "start_time",
    "ttfts": "ttft",
    "itls": "itl",
}
"""The lists of ``vllm bench serve --save-detailed`` and what each entry of theirs is."""
REMEDY = (
    "give a line a request with queued_ts, first_token_ts, last_token_ts (seconds), input_tokens and output_tokens, or "
    "the file of vllm bench serve --save-result --save-detailed"
)


@dataclass(frozen=True, eq=False)
class ServerLog:
    """Requests of one server in order of arrival; arrays of shape [requests], seconds from the first arrival."""

    trace: WorkloadTrace
    first_token_s: NDArray[np.float64]
    finish_s: NDArray[np.float64]
    models: tuple[str, ...] = ()
    """That the log names."""

    @property
    def ttft_s(self) -> NDArray[np.float64]:
        """Time to first token, from arrival."""
        return self.first_token_s - self.trace.arrival_s

    @property
    def tpot_s(self) -> NDArray[np.float64]:
        """Time per output token after the first; not a number of requests with one token."""
        later = self.trace.output_tokens - 1
        return np.where(later > 0, (self.finish_s - self.first_token_s) / np.maximum(1, later), np.nan)

    @property
    def in_flight_limit(self) -> int | None:
        """How many requests the server took at once, where it stood at that for long; None where it did not."""
        times = np.concatenate([self.first_token_s, self.finish_s])
        change = np.concatenate([np.ones(len(self.first_token_s)), -np.ones(len(self.finish_s))])
        order = np.lexsort((change, times))
        running, spans = np.cumsum(change[order])[:-1], np.diff(times[order])
        most = running.max(initial=0.0)
        at_most = spans[running >= NEAR_LIMIT * most].sum()
        return int(most) if most > 1 and at_most >= LONG * spans.sum() else None


def read_log(path: str | Path) -> ServerLog:
    """Read a log: JSON Lines or CSV with a line a request, or the JSON file of ``vllm bench serve --save-detailed``.

    Raises:
        RequestError: the file cannot be read, a column is missing, or a time makes no sense.
    """
    where = str(path)
    rows = _rows(Path(path), where)
    if len(rows) < FEWEST:
        raise RequestError(
            f"has {len(rows)} requests, too few to fit costs to", field=where, remedy=f"log {FEWEST} or more"
        )
    found = {what: _column(rows, names) for what, names in NAMES.items()}
    inputs, outputs, arrival = (_needed(found[what], what, where) for what in ("input", "output", "arrival"))
    first, last = found["first"], found["last"]
    if first is None:
        first = arrival + _needed(found["ttft"], "first", where)
    if last is None and found["itl"] is not None:
        last = first + found["itl"]
    if last is None:
        last = arrival + _needed(found["e2e"], "last", where)
    usable = np.isfinite(inputs + outputs + arrival + first + last) & (inputs >= 1) & (outputs >= 1)
    wrong = usable & ((first <= arrival) | (last < first))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise RequestError(
            f"request {row + 1:,} has its first token {first[row] - arrival[row]:.3g} s after its arrival and its last "
            f"{last[row] - first[row]:.3g} s after that",
            field=where,
            remedy="times are seconds on one clock; leave out columns of another clock",
        )
    if usable.sum() < FEWEST:
        raise RequestError(f"has {usable.sum()} complete requests, too few to fit costs to", field=where, remedy=REMEDY)
    order = np.flatnonzero(usable)[np.argsort(arrival[usable], kind="stable")]
    start = arrival[order[0]]
    trace = WorkloadTrace(
        name=Path(path).name,
        format="server log",
        arrival_s=arrival[order] - start,
        input_tokens=inputs[order].astype(np.int64),
        output_tokens=outputs[order].astype(np.int64),
        notes=() if usable.all() else (f"{int((~usable).sum()):,} requests without a time or a token are left out",),
    )
    return ServerLog(trace, first[order] - start, last[order] - start, _models(rows))


def _rows(path: Path, where: str) -> Sequence[Mapping[str, Any]]:
    try:
        data = read_limited(path, limit=MAX_BYTES, error=RequestError, remedy="give a part of the log")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError("is no text", field=where, remedy=REMEDY) from None
    if not text.lstrip().startswith(("{", "[")):
        return list(csv.DictReader(text.splitlines()))
    try:
        document = json.loads(text)
    except ValueError:
        return _lines(text, where)
    if isinstance(document, list):
        rows = document
    elif isinstance(document, dict) and isinstance(document.get("ttfts"), list):
        lists = {name: document[key] for key, name in LISTS.items() if isinstance(document.get(key), list)}
        lists.setdefault("start_time", [0.0] * len(document["ttfts"]))
        named = {name: document[name] for name in MODEL_NAMES if name in document}
        rows = [{**named, **dict(zip(lists, row, strict=True))} for row in zip(*lists.values(), strict=False)]
    else:
        rows = [document]
    return [row for row in rows if isinstance(row, dict)]


def _models(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Every model that a row names, once."""
    named = (row.get(name) for row in rows for name in MODEL_NAMES)
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str) and name))


def _lines(text: str, where: str) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                raise RequestError("is no JSON", field=f"{where}, line {number}", remedy=REMEDY) from None
            if isinstance(row, dict):
                rows.append(row)
    return rows


def _column(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> NDArray[np.float64] | None:
    """Numbers of the first of ``names`` that any row has, not a number where a row has none; of a list its sum."""
    for name in names:
        if any(row.get(name) not in (None, "") for row in rows):
            return np.array([_number(row.get(name)) for row in rows])
    return None


def _number(value: object) -> float:
    if isinstance(value, list):
        return float(sum(_number(part) for part in value))
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def _needed(column: NDArray[np.float64] | None, what: str, where: str) -> NDArray[np.float64]:
    if column is None:
        looked = ", ".join(NAMES[what])
        raise RequestError(f"has no {TITLES[what]} (looked for {looked})", field=where, remedy=REMEDY)
    return column
