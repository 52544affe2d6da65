"""Serving predicted against serving measured: SmolLM2, a hundred requests of a trace, four ways to hold their caches.

The simulator and the replay share the scheduler; the simulator takes every iteration's time from a cost model, the
replay runs the iteration. Costs are measured while the trace is replayed, a point of a curve after every few
iterations, so that what else a shared machine does meets both alike; the replay's clock stops meanwhile. The prediction
is made from the mean of all that was measured of a configuration. Within a round the configurations take turns, each
round beginning with another. Prompts and outputs
are those of the trace, shorter by a factor each; KV memory holds ``--in-flight`` average requests in 16 bits. Requests
come at ``--load`` times the rate at which 16-bit caches are predicted to be served: far above it, since near it a queue
grows or not by an error of a few percent, and its times by any factor.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autokv.config import CompressionConfig
from autokv.evaluation.costs.meter import CostMeter
from autokv.evaluation.replay import Iteration, Replay, replay
from autokv.models import demo_model_path, load
from autokv.serving import CostModel, Curve, Grid, KVMemory, Outcome, ServingOptions, Step, simulate
from autokv.serving.simulator import PredictedExecutor
from autokv.workload import WorkloadTrace, read_trace, synthesize
from common import percentiles, write_result


def integers(key: int, value: int, *, residual: int = 16) -> dict[str, Any]:
    """By token, so that no more than 16 tokens wait for others to share scales with: requests are short here."""
    return {
        "method": "integer",
        "key": {"bits": key, "axis": "token", "group_size": 64},
        "value": {"bits": value, "axis": "token", "group_size": 64},
        "residual_tokens": residual,
    }


SNAPKV = {"method": "snapkv", "keep_ratio": 0.5, "recent_tokens": 16, "options": {"window": 16}}
STAGES: dict[str, dict[str, Any]] = {
    "16 bit": {},
    "K8V8": {"quantization": integers(8, 8, residual=32)},
    "SnapKV 0.5, K4V4": {"eviction": SNAPKV, "quantization": integers(4, 4)},
    "K4V2": {"quantization": integers(4, 2)},
}
CONFIGS = {name: CompressionConfig.parse({"pipeline": stages}) for name, stages in STAGES.items()}
FIGURES = ("ttft_p50_ms", "ttft_p95_ms", "tpot_p50_ms", "tpot_p95_ms", "throughput_tokens_per_s")
HIGHER_IS_BETTER = ("throughput_tokens_per_s",)
EVERY = 10
"""Iterations from one point of a cost that is measured to the next."""
TIE = 0.05
"""Two measured figures that differ by no more are a tie: repeated replays differ by as much."""


def figures(outcome: Outcome) -> dict[str, float]:
    report = outcome.report()
    return {
        "ttft_p50_ms": report.ttft_ms["p50"],
        "ttft_p95_ms": report.ttft_ms["p95"],
        "tpot_p50_ms": report.tpot_ms["p50"],
        "tpot_p95_ms": report.tpot_ms["p95"],
        "throughput_tokens_per_s": report.throughput_tokens_per_s,
    }


def requests_of(path: Path | None, count: int, shorter: tuple[float, float]) -> WorkloadTrace:
    """The first ``count`` requests, with the trace's input and output tokens over ``shorter``."""
    if path is None:
        whole = synthesize(
            requests=count, seed=20, requests_per_s=0.5, input_tokens=(1020, 2400), output_tokens=(130, 450)
        )
    else:
        whole = read_trace(path)
    first = whole.take(np.arange(count))
    inputs, outputs = (
        np.maximum(1, np.rint(tokens / factor)).astype(np.int64)
        for tokens, factor in zip((first.input_tokens, first.output_tokens), shorter, strict=True)
    )
    return replace(first, input_tokens=inputs, output_tokens=outputs, prefixes=None)


class Between:
    """Lets work that is done step by step, in a thread of its own, go on by one step at a time.

    Args:
        work: is given what it is to call before every step; begins anew when it has ended.
    """

    def __init__(self, work: Callable[[Callable[[], None]], CostModel]) -> None:
        self.results: list[CostModel] = []
        self._go, self._paused, self._stopping = threading.Semaphore(0), threading.Semaphore(0), False
        self._work, self._turns = work, 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._paused.acquire()

    def __call__(self) -> None:
        """One step, in every :data:`EVERY`-th call."""
        self._turns += 1
        if self._turns % EVERY == 0:
            self._step()

    def stop(self) -> None:
        """Go on until there is at least one result, and leave what has begun."""
        while not self.results:
            self._step()
        self._stopping = True
        self._go.release()
        self._thread.join()

    def _step(self) -> None:
        self._go.release()
        self._paused.acquire()
        if self._failure is not None:
            raise self._failure

    def _pause(self) -> None:
        self._paused.release()
        self._go.acquire()
        if self._stopping:
            raise _Stopped

    def _run(self) -> None:
        try:
            while True:
                self.results.append(self._work(self._pause))
        except _Stopped:
            return
        except BaseException as failure:  # raised again where it is waited for
            self._failure = failure
            self._paused.release()


class _Stopped(Exception):  # noqa: N818 - an event
    pass


def mean_costs(measured: Sequence[CostModel]) -> CostModel:
    """Point by point; all were measured at the same sizes."""

    def curve(curves: Sequence[Curve]) -> Curve:
        return Curve(curves[0].x, tuple(np.mean([one.y for one in curves], axis=0).tolist()))

    grids = [one.decode_attention for one in measured]
    return replace(
        measured[0],
        rest=curve([one.rest for one in measured]),
        prefill_attention=curve([one.prefill_attention for one in measured]),
        compress=curve([one.compress for one in measured]),
        decode_attention=Grid(
            grids[0].batches, tuple(curve(row) for row in zip(*(grid.curves for grid in grids), strict=True))
        ),
    )


def by_kind(iterations: Sequence[Iteration], costs: CostModel) -> dict[str, dict[str, float]]:
    """Predicted over measured seconds of iterations of a kind, and how many seconds of it were measured."""
    executor = PredictedExecutor(costs)
    sums: dict[str, list[float]] = {}
    for one in iterations:
        step = Step(decoding=range(one.decoding), held_tokens=one.held_tokens, chunks=one.chunks)
        if one.chunks:
            kind = "with prompts" if one.decoding else "prompts alone"
        else:
            kind = f"decoding up to {1 << (one.decoding - 1).bit_length()}"
        found = sums.setdefault(kind, [0.0, 0.0, 0.0])
        found[0] += executor.run(step, float("inf"))[1]
        found[1] += one.seconds
        found[2] += 1
    return {
        kind: {"predicted_over_measured": predicted / measured, "seconds": measured, "iterations": count}
        for kind, (predicted, measured, count) in sorted(sums.items())
    }


def ranking(values: Mapping[str, Mapping[str, float]], figure: str) -> list[str]:
    """Names, the best first."""
    return sorted(values, key=lambda name: values[name][figure], reverse=figure in HIGHER_IS_BETTER)


def contradictions(
    predicted: Mapping[str, Mapping[str, float]], measured: Mapping[str, Mapping[str, float]], figure: str
) -> list[list[str]]:
    """Pairs of names that are predicted in the other order than they are measured in, ties left out."""
    return [
        [first, second]
        for first, second in combinations(predicted, 2)
        if (predicted[first][figure] < predicted[second][figure])
        != (measured[first][figure] < measured[second][figure])
        and abs(measured[first][figure] / measured[second][figure] - 1) > TIE
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path, help="AzureLLMInferenceTrace_conv.csv, or any other trace")
    parser.add_argument("--model", help="folder with weights (default: the demo model)")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--shorter", type=float, nargs=2, default=(8.0, 6.0), metavar=("INPUTS", "OUTPUTS"))
    parser.add_argument("--load", type=float, default=8.0)
    parser.add_argument("--in-flight", type=float, default=4.0)
    parser.add_argument("--max-num-seqs", type=int, default=24)
    parser.add_argument("--max-num-batched-tokens", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of torch; a second core then meets what else runs")
    parser.add_argument("--quick", action="store_true", help="24 requests, one round")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.quick:
        options.requests, options.rounds = 24, 1
    model = load(options.model or str(demo_model_path()), dtype=options.dtype, device=options.device)
    work = requests_of(options.trace, options.requests, tuple(options.shorter))
    serving = ServingOptions(max_num_batched_tokens=options.max_num_batched_tokens, max_num_seqs=options.max_num_seqs)
    lengths = work.input_tokens + work.output_tokens

    def meter(check: Callable[[], None]) -> CostMeter:
        torch.set_num_threads(options.threads)
        return CostMeter(
            model,
            fingerprint="here",
            longest_tokens=int(lengths.max()),
            max_batch=options.max_num_seqs,
            max_num_batched_tokens=options.max_num_batched_tokens,
            output_tokens=round(float(work.output_tokens.mean())),
            check=check,
        )

    began, first = time.perf_counter(), meter(lambda: None)
    beforehand = {name: first.measure(config) for name, config in CONFIGS.items()}
    print(f"costs measured beforehand in {time.perf_counter() - began:.0f} s", flush=True)
    plain = beforehand["16 bit"]
    capacity = options.in_flight * (float(lengths.mean()) * plain.sequence.per_token + plain.sequence.per_sequence)
    at_once = simulate(replace(work, arrival_s=np.zeros(len(work))), plain, capacity, serving).report()
    rate = options.load * at_once.throughput_requests_per_s
    work = replace(work, arrival_s=work.arrival_s * ((len(work) - 1) / float(work.arrival_s[-1]) / rate))
    print(f"{len(work)} requests, {rate:.2f} a second; KV memory of {capacity / 1e6:.0f} MB", flush=True)

    rounds: list[dict[str, Replay]] = []
    measured: dict[str, list[CostModel]] = {name: [] for name in CONFIGS}
    for number in range(options.rounds):
        names = list(CONFIGS)
        names = names[number % len(names) :] + names[: number % len(names)]
        found: dict[str, Replay] = {}
        for name in names:
            memory = KVMemory(capacity, plain.sequence, serving.block_size)
            memory = replace(memory, sequence=beforehand[name].sequence)
            between = Between(lambda check, config=CONFIGS[name]: meter(check).measure(config))  # type: ignore[misc]
            found[name] = replay(work, model, CONFIGS[name], memory, serving, between=between)
            between.stop()
            measured[name] += between.results
            line = ", ".join(f"{key} {value:.4g}" for key, value in figures(found[name].outcome).items())
            print(f"round {number + 1}, {name}: {line}", flush=True)
        rounds.append(found)

    costs = {name: mean_costs(found) for name, found in measured.items()}
    rows: dict[str, Any] = {}
    predicted_figures: dict[str, dict[str, float]] = {}
    measured_figures: dict[str, dict[str, float]] = {}
    for name in CONFIGS:
        simulated = simulate(work, costs[name], capacity, serving)
        before = simulate(work, beforehand[name], capacity, serving)
        real = [found[name] for found in rounds]
        each = [figures(one.outcome) for one in real]
        predicted_figures[name] = predicted = figures(simulated)
        measured_figures[name] = {key: float(np.median([one[key] for one in each])) for key in FIGURES}
        report = real[-1].outcome.report()
        rows[name] = {
            "predicted": predicted,
            "predicted_beforehand": figures(before),
            "measured": measured_figures[name],
            "measured_rounds": each,
            "cost_measurements": len(measured[name]),
            "error": {key: predicted[key] / measured_figures[name][key] - 1 for key in FIGURES},
            "error_beforehand": {key: figures(before)[key] / measured_figures[name][key] - 1 for key in FIGURES},
            "max_running": {"predicted": simulated.max_running, "measured": report.max_running},
            "iterations": {"predicted": simulated.iterations, "measured": report.iterations},
            "preemptions": {"predicted": int(simulated.preemptions.sum()), "measured": report.preemptions},
            "peak_kv_bytes": {
                "accounted": max(one.outcome.peak_kv_bytes for one in real),
                "held": max(one.peak_held_bytes for one in real),
                "capacity": capacity,
            },
            "iteration_times": by_kind([one for found in real for one in found.iterations], costs[name]),
        }
        print(name)
        for key in FIGURES:
            print(
                f"  {key:24} predicted {predicted[key]:9.1f}  measured {measured_figures[name][key]:9.1f}  "
                f"{rows[name]['error'][key]:+6.1%} (beforehand {rows[name]['error_beforehand'][key]:+6.1%})"
            )
        for kind, one in rows[name]["iteration_times"].items():
            ratio, seconds = one["predicted_over_measured"], one["seconds"]
            print(f"    {kind:20} {ratio:.3f} of {seconds:.1f} s ({one['iterations']:.0f})")
    errors = [abs(rows[name]["error"][key]) for name in CONFIGS for key in FIGURES]
    rankings = {
        key: {
            "predicted": ranking(predicted_figures, key),
            "measured": ranking(measured_figures, key),
            "contradictions": contradictions(predicted_figures, measured_figures, key),
        }
        for key in FIGURES
    }
    print(f"largest error {max(errors):.1%}, mean {np.mean(errors):.1%}")
    for key, one in rankings.items():
        print(
            f"{key}: predicted {one['predicted']}, measured {one['measured']}, contradictions {one['contradictions']}"
        )
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    result = {
        "settings": {**settings, "trace": work.name, "model": model.name, "requests_per_s": rate},
        "rounds": len(rounds),
        "largest_error": max(errors),
        "errors": percentiles(errors),
        "rankings": rankings,
        "configurations": rows,
        "costs": {name: one.to_dict() for name, one in costs.items()},
    }
    print(f"written to {write_result('replay', result)}")


if __name__ == "__main__":
    main()
