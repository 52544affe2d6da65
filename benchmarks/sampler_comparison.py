"""Which sampler finds the best front in 60 trials, on a table of configurations that were all measured.

Every point of sampler_comparison.yaml is judged once on a real model (``--build-table``, which can be stopped and goes
on where it was); then each sampler searches that table with many seeds, which costs nothing but the sampler. Reported
is the hypervolume over divergence, bytes and time, as a share of that of the whole table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np

from autokv.config import CompressionConfig
from autokv.data import builtin_text
from autokv.errors import AutoKVError
from autokv.evaluation.measurement import Measurement
from autokv.search_spaces import SearchSpace, load_space
from autokv.tuning.hypervolume import Box, history
from autokv.tuning.objectives import losses
from autokv.tuning.request import DEFAULT_OBJECTIVES, TuningRequest
from autokv.tuning.search import search
from common import RESULTS, environment, percentiles, write_result

SPACE = Path(__file__).with_suffix(".yaml")
TABLE = RESULTS / "sampler_comparison_table.jsonl"
BATCH = 8
MARKS = (15, 30, 60)
"""Numbers of trials after which the hypervolume is reported."""


class Contender(NamedTuple):
    sampler: Literal["tpe", "nsgaii", "gp", "random"]
    literature: bool
    most_seeds: int = 1000


CONTENDERS = {
    "random": Contender("random", literature=False),
    "tpe+literature": Contender("tpe", literature=True),
    "tpe": Contender("tpe", literature=False),
    "nsgaii+literature": Contender("nsgaii", literature=True),
    "gp+literature": Contender("gp", literature=True, most_seeds=5),
}
SLOW = "gp+literature"
"""Takes seconds for a candidate, minutes for a seed: only with ``--gp``."""


# The table: a header, then one row per configuration, {"digest", "params", "metrics"} or {"digest", "params", "error"}.


def build_table(options: argparse.Namespace) -> None:
    """Judge every configuration of the space that the table does not have yet."""
    from autokv.evaluation.evaluator import Evaluator, needs_of
    from autokv.evaluation.prompts import text_prompts
    from autokv.models import load
    from autokv.models.demo import demo_model_path

    model = load(options.model or str(demo_model_path()), dtype=options.dtype, device=options.device)
    space = load_space(str(SPACE)).fitted(model.facts.head_dim)
    done = read_rows(options.table) if options.table.exists() else {}
    missing = {digest: config for digest, config in every_config(space).items() if digest not in done}
    prompts = text_prompts(
        options.text,
        model.tokenizer,
        context_tokens=[options.context_tokens] * options.samples,
        continuation_tokens=options.continuation_tokens,
    )
    evaluator = Evaluator(model, prompts, options.continuation_tokens, needs_of(space.statistics_configs()))
    if not done:
        settings = {
            "model": model.name,
            "head_dim": model.facts.head_dim,
            "dtype": str(model.dtype),
            "context_tokens": options.context_tokens,
            "continuation_tokens": options.continuation_tokens,
            "samples": options.samples,
        }
        options.table.parent.mkdir(exist_ok=True)
        append(options.table, [{"settings": settings, "environment": environment()}])
    began, configs = time.monotonic(), list(missing.values())
    for start in range(0, len(configs), BATCH):
        batch = configs[start : start + BATCH]
        append(
            options.table,
            [row_of(space, one, result) for one, result in zip(batch, evaluator.evaluate(batch), strict=True)],
        )
        finished = start + len(batch)
        left = (time.monotonic() - began) / finished * (len(configs) - finished)
        print(f"{finished:5} of {len(configs)} configurations, {left / 60:.0f} min left", flush=True)


def every_config(space: SearchSpace) -> dict[str, CompressionConfig]:
    """Digest to configuration, each once."""
    configs = (space.to_config(point) for point in space.grid())
    return {config.digest: config for config in configs}


def row_of(space: SearchSpace, config: CompressionConfig, result: Measurement | AutoKVError) -> dict[str, Any]:
    """A row of the table."""
    row = {"digest": config.digest, "params": space.params_of(config)}
    if isinstance(result, Measurement):
        return {**row, "metrics": {name: result.value(name) for name in DEFAULT_OBJECTIVES}}
    return {**row, "error": str(result)}


def append(table: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add whole lines to the table."""
    with table.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def read_rows(table: Path) -> dict[str, dict[str, Any]]:
    """The rows of a table by digest."""
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    return {row["digest"]: row for row in rows if "digest" in row}


# The comparison.


def compare(
    space: SearchSpace,
    rows: Mapping[str, Mapping[str, Any]],
    *,
    contenders: Sequence[str] = tuple(CONTENDERS),
    seeds: int = 10,
    trials: int = MARKS[-1],
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Every contender with every seed on the same table; shares of the whole table's hypervolume."""
    known = {digest: measurement_of(space, row) for digest, row in rows.items() if "metrics" in row}
    points = np.array([losses(measurement, DEFAULT_OBJECTIVES) for measurement in known.values()])
    frame = Box.around(points)
    whole = frame.share(points)

    def evaluate(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        return [known.get(config.digest) or AutoKVError("was not measured") for config in configs]

    results: dict[str, Any] = {}
    for name in contenders:
        contender = CONTENDERS[name]
        own = space if contender.literature else replace(space, literature={})
        curves, seconds = [], []
        for seed in range(min(seeds, contender.most_seeds)):
            request = TuningRequest(model="table", sampler=contender.sampler, trials=trials, seed=seed)
            began = time.perf_counter()
            outcome = search(request, own, evaluate=evaluate)
            seconds.append(time.perf_counter() - began)
            measured = [record.measurement for record in outcome.trials]
            shares = history([losses(one, DEFAULT_OBJECTIVES) if one else None for one in measured], frame)
            curves.append([share / whole for share in shares])
        finals = [curve[-1] for curve in curves]
        results[name] = {
            "hypervolume": {
                str(mark): percentiles([curve[mark - 1] for curve in curves]) for mark in MARKS if mark <= trials
            },
            "final_by_seed": finals,
            "median_curve": [round(median(column), 5) for column in zip(*curves, strict=True)],
            "sampler_seconds": percentiles(seconds),
        }
        say(f"{name:18} {median(finals):.4f}  [{min(finals):.4f}, {max(finals):.4f}]  {median(seconds):6.1f} s")
    if "random" in results:
        baseline = results["random"]["final_by_seed"]
        for result in results.values():
            own_seeds = result["final_by_seed"]
            result["wins_over_random"] = sum(a > b for a, b in zip(own_seeds, baseline[: len(own_seeds)], strict=True))
            result["worst_beats_best_random"] = min(own_seeds) > max(baseline)
    return {"configurations": len(known), "trials": trials, "seeds": seeds, "samplers": results}


def measurement_of(space: SearchSpace, row: Mapping[str, Any]) -> Measurement:
    """A row as the evaluator would give it."""
    return Measurement.of_samples(space.to_config(row["params"]), [{"id": "table", **row["metrics"]}])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--gp", action="store_true", help="also the Gaussian process: minutes for a seed")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=MARKS[-1])
    build = parser.add_argument_group("building the table")
    build.add_argument("--build-table", action="store_true", help="judge what the table does not have yet")
    build.add_argument("--model", help="folder with weights (default: the demo model)")
    build.add_argument("--dtype", default="float32")
    build.add_argument("--device", default="cpu")
    build.add_argument("--text", type=Path, default=builtin_text())
    build.add_argument("--context-tokens", type=int, default=512)
    build.add_argument("--continuation-tokens", type=int, default=64)
    build.add_argument("--samples", type=int, default=2)
    options = parser.parse_args()
    if options.build_table:
        build_table(options)
        return
    if not options.table.exists():
        sys.exit(f"{options.table} is missing; make it with --build-table")
    contenders = [name for name in CONTENDERS if options.gp or name != SLOW]
    header = json.loads(options.table.read_text(encoding="utf-8").partition("\n")[0])
    space = load_space(str(SPACE)).fitted(header["settings"]["head_dim"])
    rows = read_rows(options.table)
    print(f"{len(rows)} configurations; share of the table's hypervolume after {options.trials} trials")
    result = compare(space, rows, contenders=contenders, seeds=options.seeds, trials=options.trials, say=print)
    print(f"written to {write_result('sampler_comparison', {'table': header, **result})}")


if __name__ == "__main__":
    main()
