"""An engine's costs from the log of a real server: fitted so that the simulated requests see what the real ones saw.

An iteration takes ``iteration + token · (prompt tokens + decoding sequences) + sequence · decoding sequences +
held · tokens that they hold`` seconds (the linear model of an iteration of Vidur, 2024, and DistServe, 2024, without
the square of the prompt, which a log of mixed lengths does not tell from the rest). The four are found in two steps:

1. A start that needs no simulation. How long a request decoded is the sum of its iterations, and how many sequences
   decoded, what they held and how many prompt tokens came meanwhile is in the log: linear least squares with
   coefficients that are not negative.
2. Nonlinear least squares (trust region, soft-L1 loss) over the logarithms of the four: the differences between
   logarithms of simulated and logged time to first token and time per output token.

The requests that arrived last are held out of both; the error that is stated is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from autokv.errors import RequestError
from autokv.serving.cost_model import CostModel, ModelShape
from autokv.serving.curves import Curve, Grid
from autokv.serving.engine_options import ServingOptions
from autokv.serving.kv_memory import SequenceBytes
from autokv.serving.outcome import Outcome
from autokv.serving.server_log import FEWEST, ServerLog
from autokv.serving.simulator import simulate

FITTED_SHARE = 2 / 3
"""Of the requests, the first ones by arrival, that costs are fitted to."""
SMALLEST = 1e-9
"""Seconds below which a cost is none."""
STEP = 0.02
"""Of a logarithm, for derivatives: a simulation is a staircase, and a smaller step stands on one of its treads."""
FAR = 1_000_000
"""Tokens up to which the lines are drawn."""
PLAUSIBLE = 0.8
"""Of the time that reading the weights once takes: a step that is faster than that is implausible."""
NAMED = 3
"""Models of a log that are named."""


@dataclass(frozen=True)
class EngineCosts:
    """Seconds of what an iteration consists of."""

    iteration: float
    """Whatever it does."""
    token: float
    """On top for every token that passes the model, of a prompt or decoding."""
    sequence: float
    """On top for every sequence that decodes."""
    held: float
    """On top for every token that decoding sequences hold."""

    def cost_model(self, sequence: SequenceBytes, predicted: str) -> CostModel:
        """A 16-bit cache's costs."""
        return CostModel(
            rest=Curve((1.0, float(FAR)), (self.iteration + self.token, self.iteration + FAR * self.token)),
            prefill_attention=Curve((1.0, float(FAR)), (0.0, 0.0)),
            compress=Curve((1.0,), (0.0,)),
            decode_attention=Grid(
                (1, 1024),
                tuple(
                    Curve((0.0, float(FAR)), (batch * self.sequence, batch * (self.sequence + FAR * self.held)))
                    for batch in (1, 1024)
                ),
            ),
            sequence=sequence,
            predicted=predicted,
            basis="fitted",
        )


@dataclass(frozen=True)
class Calibration:
    """Costs fitted to a log, and how far the simulator is off on the requests that were held out."""

    costs: EngineCosts
    log: str
    """Its name."""
    fitted: int
    """Requests."""
    held_out: int
    errors: Mapping[str, float]
    """On the held-out requests, relative to the log: of the mean, ``ttft`` and ``tpot``, signed; and the mean of what
    single requests are off by, ``ttft_each`` and ``tpot_each``."""
    notes: tuple[str, ...] = ()
    """For what the fit holds, and what speaks against that."""

    @property
    def words(self) -> str:
        """What was fitted to what, with which error."""
        off = self.errors
        return (
            f"Costs fitted to {self.fitted:,} requests of {self.log}; on the {self.held_out:,} that arrived last the "
            f"mean time to first token is {off['ttft']:+.1%} off and the mean time per output token {off['tpot']:+.1%}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; costs in seconds."""
        return {**asdict(self), "errors": dict(self.errors), "words": self.words}


def calibrate(log: ServerLog, options: ServingOptions, capacity_bytes: float, sequence: SequenceBytes) -> Calibration:
    """Fit an engine's costs to the log of a server that scheduled by ``options`` with so much KV memory.

    Raises:
        RequestError: too few requests have more than one token, or the memory does not hold the requests.
    """
    count = round(FITTED_SHARE * len(log.trace))
    early = np.arange(len(log.trace)) < count
    if (log.trace.output_tokens[early] > 1).sum() < FEWEST / 2:
        raise RequestError(
            "has too few requests with more than one output token", field=log.trace.name, remedy="log longer answers"
        )
    start = _start(log, early)

    def run(logarithms: NDArray[np.float64]) -> Outcome:
        costs = EngineCosts(*np.exp(logarithms))
        return simulate(log.trace, costs.cost_model(sequence, ""), capacity_bytes, options)

    def residuals(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        ttft, tpot = _ratios(log, run(logarithms))
        logarithm: NDArray[np.float64] = np.log(np.concatenate([ttft[early], tpot[early]]))
        return logarithm

    found = least_squares(
        residuals, np.log(np.maximum(SMALLEST, start)), loss="soft_l1", f_scale=0.1, diff_step=STEP, max_nfev=30
    )
    late, outcome = ~early, run(found.x)
    refused = int((~outcome.served).sum())
    if refused:
        raise RequestError(
            f"{refused:,} of the log's requests never fit into it",
            field="KV memory",
            remedy="give that of the server with --kv-memory",
        )
    ttft, tpot = _ratios(log, outcome)
    return Calibration(
        costs=EngineCosts(*(float(value) for value in np.exp(found.x))),
        log=log.trace.name,
        fitted=count,
        held_out=int(late.sum()),
        errors={
            "ttft": _off(outcome.first_token_s - outcome.arrival_s, log.ttft_s, late),
            "tpot": _off(_tpot(outcome), log.tpot_s, late),
            "ttft_each": float(np.mean(np.abs(ttft[late] - 1))),
            "tpot_each": float(np.mean(np.abs(tpot[late] - 1))),
        },
    )


def doubts(
    found: Calibration, log: ServerLog, shape: ModelShape, *, model: str, device: str, bandwidth: float
) -> Iterator[str]:
    """For what the fit holds, and what speaks against that, a line each: a log does not prove of what it is.

    ``shape``, ``model``, ``device`` and its ``bandwidth`` (bytes a second) are what the log is said to be of.
    """
    yield f"the costs are taken to be those of {model} on {device}; they hold only for the server that wrote the log"
    others = [name for name in log.models if _short(name) != _short(model)]
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        yield f"warning: {found.log} names the model {', '.join(others[:NAMED])}{more}, not {model}"
    costs = found.costs
    step, least = costs.iteration + costs.token + costs.sequence, shape.weights_bytes / bandwidth
    # Of a mixture of experts, which has no products, a step reads only a part.
    if shape.products and step < PLAUSIBLE * least:
        yield (
            f"warning: a decoding step was fitted to take {1e3 * step:.2g} ms, but {device} needs {1e3 * least:.2g} ms "
            f"to read the weights of {model}: the log may be of a smaller or quantized model, or of more devices"
        )


def _ratios(log: ServerLog, outcome: Outcome) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Simulated over logged; 1 where one of them is not known."""
    ttft = (outcome.first_token_s - outcome.arrival_s) / log.ttft_s
    tpot = _tpot(outcome) / log.tpot_s
    return tuple(np.where(np.isfinite(one) & (one > 0), one, 1.0) for one in (ttft, tpot))  # type: ignore[return-value]


def _tpot(outcome: Outcome) -> NDArray[np.float64]:
    return (outcome.finish_s - outcome.first_token_s) / np.maximum(1, outcome.output_tokens - 1)


def _off(found: NDArray[np.float64], wanted: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    known = where & np.isfinite(found) & np.isfinite(wanted)
    return float(found[known].mean() / wanted[known].mean() - 1) if known.any() else float("nan")


def _start(log: ServerLog, early: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The four costs by linear least squares over the times that requests decoded."""
    trace, first, last = log.trace, log.first_token_s, log.finish_s
    chosen = np.flatnonzero(early & (trace.output_tokens > 1) & (last > first))
    rows, seconds = [], []
    for request in chosen:
        begin, end, steps = first[request], last[request], trace.output_tokens[request] - 1
        shared = np.clip(np.minimum(last, end) - np.maximum(first, begin), 0.0, None) / (end - begin)
        # What each held while both decoded: its prompt, and its answer as far as it had come by the middle of that.
        middle = (np.minimum(last, end) + np.maximum(first, begin)) / 2
        come = np.clip((middle - first) / np.maximum(1e-12, last - first), 0.0, 1.0)
        held = trace.input_tokens + come * trace.output_tokens
        prompts = trace.input_tokens[(first > begin) & (first <= end)].sum()
        rows.append([steps, prompts, steps * shared.sum(), steps * (shared * held).sum()])
        seconds.append(end - begin)
    matrix, wanted = np.array(rows, dtype=float), np.array(seconds)
    scale = np.maximum(1e-12, np.abs(matrix / wanted[:, None]).mean(axis=0))
    found = nnls(matrix / wanted[:, None] / scale, np.ones(len(wanted)))[0] / scale
    iteration, token, sequence, each = found
    # A cost that the log does not show begins small, so that its logarithm can grow.
    floor = 0.02 * wanted.sum() / np.maximum(1e-12, matrix.sum(axis=0))
    start: NDArray[np.float64] = np.maximum([iteration, token, max(0.0, sequence - token), each], floor)
    return start


def _short(model: str) -> str:
    """A model's name without its owner or folder."""
    return model.rstrip("/").rpartition("/")[2].lower()
