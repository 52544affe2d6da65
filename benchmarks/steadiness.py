"""Whether the same request gets as good an answer every time on a machine that is busy with other things.

One request is tuned again and again, each time from nothing, several runs at once, and other processes besides keep the
processors busy. Afterwards
the timings of all runs are pooled, and every front is judged anew by a long simulation from them: what matters is how
much less the recommended configuration sustains than the best of its own front that meets the bound.

The model is the demonstration's, cut to its first layers, so that a run takes a minute or two on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autokv.data import example_trace
from autokv.evaluation.baselines import UNCOMPRESSED
from autokv.evaluation.costs import KernelTime, MemoryCache
from autokv.hardware import probe
from autokv.models import demo_model_path, load
from autokv.report import describe
from autokv.runs.simulated_engines import SimulatedEngines
from autokv.serving.engine_options import usual_options
from autokv.serving.rate import default_slo, max_sustainable_rate
from autokv.serving.traffic import traffic
from autokv.storage import Database
from autokv.storage.tables import KernelTimeRow
from autokv.tuning.objectives import constraints_of
from autokv.tuning.recommend import passes
from autokv.tuning.trial import TuningResult
from autokv.workload import WorkloadTrace, read_trace
from autokv.workload.transform import repeated
from common import percentiles, write_result

KV_MEMORY = 30e6
RATE = 1.0
WITHIN = 0.05
COPIES = 10
"""Of the trace, for the long simulation."""
SPIN = "while True: sum(i * i for i in range(1000))"


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other processes, all the while."""
    started = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(max(0, processes))]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def cut_model(folder: Path, layers: int) -> Path:
    """The demonstration's model with its first ``layers`` layers."""
    source = demo_model_path()
    model = AutoModelForCausalLM.from_pretrained(source)
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def tune(model: Path, trials: int, folder: Path) -> TuningResult:
    """One run from nothing, unless it is there already."""
    folder.mkdir(exist_ok=True)
    command = [str(Path(sys.executable).parent / "autokv"), "tune", "--quiet", "--model", str(model)]
    command += ["--workload", str(example_trace()), "--rate", str(RATE), "--kv-memory", f"{KV_MEMORY:.0f}"]
    command += ["--max", "kl_divergence=0.05", "--no-tasks", "--trials", str(trials), "--samples", "2"]
    command += ["--validation-samples", "2", "--max-context-tokens", "256", "--continuation-tokens", "16"]
    url = f"sqlite:///{folder / 'autokv.db'}"
    if not (folder / "results" / "report.html").exists():
        subprocess.run([*command, "--database", url, "--output", str(folder / "results")], check=True, cwd=folder)
    with Database(url, create=False) as database:
        (job,) = database.jobs.list()
        result = database.results.of(job.id)
    if result is None:
        raise SystemExit(f"the run in {folder} has no result")
    return result


def pooled(folders: list[Path]) -> MemoryCache:
    """Every time that was kept, the median over the runs; each run's by its own yardstick, whose median all share."""
    seconds: dict[str, list[float]] = {}
    documents: dict[str, Any] = {}
    anchors: list[float] = []
    for folder in folders:
        with Database(f"sqlite:///{folder / 'autokv.db'}", create=False) as database, database.reading() as session:
            rows = {row.key: row for row in session.query(KernelTimeRow).order_by(KernelTimeRow.id)}
            (anchor,) = (row.seconds for row in rows.values() if row.document["stage"]["kind"] == "yardstick")
            anchors.append(anchor)
            for key, row in rows.items():
                documents[key] = row.document
                seconds.setdefault(key, []).append(row.seconds / anchor)
    cache, pace = MemoryCache(), median(anchors)
    for key, ratios in seconds.items():
        cache.put(key, documents[key], KernelTime(median(ratios) * pace, 0.0, len(ratios)))
    return cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=4, help="runs at the same time")
    parser.add_argument("--load", type=int, default=10, help="load that these runs and other processes make at least")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--folder", type=Path, help="where runs are kept; those that are there are not run again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary)
        (root / "model").mkdir(parents=True, exist_ok=True)
        model = cut_model(root / "model", options.layers)
        folders = [root / f"run-{number}" for number in range(options.runs)]
        results, loads = [], []
        spinning = options.load - options.at_once  # a run keeps one to all threads busy
        with busy(spinning), ThreadPoolExecutor(options.at_once) as pool:
            for folder, found in zip(folders, pool.map(partial(tune, model, options.trials), folders), strict=True):
                results.append(found)
                loads.append(os.getloadavg()[0])
                decision = found.decision
                print(f"{folder.name}: {decision and decision.headline}; load {loads[-1]:.1f}", flush=True)
        rows = judged(model, results, folders)
    near = sum(row["share_of_best"] >= 1 - WITHIN for row in rows)
    shares = [row["share_of_best"] for row in rows]
    print(f"{near} of {len(rows)} recommended within {WITHIN:.0%} of the best; the worst at {min(shares):.3f}")
    result = {
        "runs": len(rows),
        "runs_at_once": options.at_once,
        "load_average": percentiles(loads),
        "trials": options.trials,
        "layers": options.layers,
        "kv_memory_bytes": KV_MEMORY,
        "within": WITHIN,
        "runs_within": near,
        "share_of_best": percentiles(shares),
        "each": rows,
    }
    print(f"written to {write_result('steadiness', result)}")


def _in_a_row(trace: WorkloadTrace) -> WorkloadTrace:
    """The trace :data:`COPIES` times, one after the other."""
    copies = repeated(trace, COPIES)
    spans = np.arange(len(copies)) % COPIES * (float(trace.arrival_s[-1]) + 1 / RATE)
    made = replace(copies, arrival_s=copies.arrival_s + spans)
    return made.take(np.argsort(made.arrival_s, kind="stable"))


def judged(model: Path, results: list[TuningResult], folders: list[Path]) -> list[dict[str, Any]]:
    """Every run's recommendation beside the best of its front, by a long simulation from pooled times."""
    loaded = load(str(model))
    served, _ = traffic(read_trace(str(example_trace())), context_tokens=loaded.facts.context_tokens, rate=RATE)
    here = probe(str(loaded.device))
    engines = SimulatedEngines(
        loaded,
        served,
        here=here,
        target=here,
        options=usual_options(here.kind),
        kv_memory=KV_MEMORY,
        thorough=False,
        cache=pooled(folders),
    )
    long = _in_a_row(served)
    with Database(f"sqlite:///{folders[0] / 'autokv.db'}", create=False) as database:
        (job,) = database.jobs.list()
    slo = default_slo(served, engines.engine("16-bit", UNCOMPRESSED).costs)
    utilities: dict[str, float] = {}
    rows = []
    for result in results:
        able = {}
        for point in result.front:
            found = point.validation
            if found is None or not passes(found, constraints_of(job.request)):
                continue
            digest = found.config.digest
            if digest not in utilities:
                engine = engines.engine("candidate", found.config)
                utilities[digest] = max_sustainable_rate(long, engine.serve, slo).requests_per_s
            able[digest] = (utilities[digest], describe(found.config))
        best = max(able.values())
        chosen = able[result.recommended or ""]
        rows.append(
            {
                "recommended": chosen[1],
                "sustained_requests_per_s": chosen[0],
                "best": best[1],
                "best_requests_per_s": best[0],
                "share_of_best": chosen[0] / best[0],
            }
        )
    return rows


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
