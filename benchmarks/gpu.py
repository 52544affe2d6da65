"""Everything that a GPU is needed for, in one command and under nine minutes.

    python benchmarks/gpu.py                     # on a machine with a CUDA device
    python benchmarks/gpu.py --device cpu --quick --output /tmp/rehearsal.json   # the same way, small, without one

Parity of every kernel first: what is wrong gets no figure. Then launch configurations, the kernel table, decoding with
a random model of Llama-3.1-8B's shape, and a short tuning run on SmolLM2 where its weights are at hand. Each part is
written as it ends, so that a run that is cut keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Cache, DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedModel, StaticCache

from autokv import CompressedCache
from autokv.config import CompressionConfig
from autokv.data import example_trace
from autokv.errors import AutoKVError
from autokv.evaluation.kernel_shapes import FORMATS, SHAPES
from autokv.evaluation.kernel_table import KernelTable, Point
from autokv.evaluation.warm_up import warm_up
from autokv.hardware import probe
from autokv.kernels import Backend, backend
from autokv.kernels.autotune import device_name, launches_file
from autokv.kernels.parity import LIMIT_FLOAT32
from autokv.models import demo_model_path
from common import RESULTS, environment, percentiles
from kernel_cases import CASES, OTHER_CHECKS, attention_error

SECONDS = 520.0
"""Of the whole run."""
BATCHES, CONTEXTS = (1, 8, 32), (4096, 16384, 65536)
TABLE_FORMATS = ("16-bit", "fp8", "int8", "int4", "int3", "int2", "k4v2")
END_TO_END = ("16-bit", "fp8", "int8", "int4", "int2", "int4-window", "int4-ragged")
LLAMA_8B: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
}
TINY: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
}


@dataclass
class Run:
    """What every part needs, and the result that grows."""

    device: torch.device
    kernels: Backend
    quick: bool
    output: Path
    began: float = field(default_factory=time.monotonic)
    result: dict[str, Any] = field(default_factory=dict)

    def left(self, share: float = 1.0) -> float:
        """Seconds until ``share`` of the whole time is over."""
        return self.began + share * SECONDS - time.monotonic()

    def part(self, name: str, measure: Callable[[Run], Any]) -> None:
        """Run one part and write everything so far; a part that fails is written with its reason."""
        started = time.monotonic()
        try:
            found = measure(self)
        except (AutoKVError, RuntimeError, ValueError, OSError, subprocess.SubprocessError) as error:
            found = {"failed": f"{type(error).__name__}: {error}"}
        self.result[name] = found
        self.result.setdefault("seconds", {})[name] = round(time.monotonic() - started, 1)
        document = {"benchmark": "gpu", "environment": environment(), **self.result}
        self.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"== {name}: {self.result['seconds'][name]} s", flush=True)


def parity(run: Run) -> dict[str, Any]:
    """The worst error of every operation, and every case beyond its limit."""
    errors = [("decode_attention", case.name, case.limit, _attempt(attention_error, case, run)) for case in CASES]
    for operation, check in OTHER_CHECKS.items():
        found = check(run.kernels, run.device)
        errors += [(operation, name, LIMIT_FLOAT32, error) for name, error in found.items()]
    wrong = {
        f"{operation}, {name}": str(error) for operation, name, limit, error in errors if not _passes(error, limit)
    }
    for what, reason in wrong.items():
        print(f"WRONG {what}: {reason}")
    worst: dict[str, float] = {}
    for operation, _, limit, error in errors:
        if _passes(error, limit):
            worst[operation] = max(worst.get(operation, 0.0), float(error))
    return {"cases": len(errors), "wrong": wrong, "worst_rms_ratio": worst}


def _attempt(measure: Callable[..., float], case: Any, run: Run) -> float | str:
    try:
        return measure(case, run.kernels, run.device)
    except Exception as error:
        # Compilers and launches fail in many ways; the report must name each case.
        return f"{type(error).__name__}: {str(error)[:300]}"


def _passes(error: float | str, limit: float) -> bool:
    return not isinstance(error, str) and error <= limit


def launches(run: Run) -> dict[str, Any]:
    """Launch configurations of the attention that the table measures, the most important shape first."""
    if run.device.type != "cuda":
        return {"measured": 0, "note": "there is nothing to choose on this device"}
    points = []
    for point in warm_up(run.kernels, run.device, SHAPES, BATCHES, CONTEXTS, TABLE_FORMATS):
        points.append(asdict(point))
        if run.left(0.35) <= 0:
            break
    file = launches_file(device_name(run.device))
    return {"points": points, "chosen": json.loads(file.read_text(encoding="utf-8"))["launches"]}


def kernel_table(run: Run) -> dict[str, Any]:
    """Rows in order of importance, until the part's time is over; what was not reached is named."""
    copy = probe(run.device).copy_gb_per_s
    table = KernelTable(run.kernels, run.device, copy.median)
    batches, contexts = ((1, 2), (512,)) if run.quick else (BATCHES, CONTEXTS)
    points = [Point(shape, batch, context) for shape in SHAPES for context in contexts for batch in batches]
    rows, missed = [], []
    for point in points:
        if run.left(0.6) <= 0:
            missed.append(f"{point.shape}, batch {point.batch}, context {point.context}")
            continue
        for row in table.measure(point, TABLE_FORMATS):
            rows.append(row.to_dict())
            if row.us is not None and row.faster_than_16bit is not None and row.copy_share is not None:
                print(
                    f"{point.shape:13} b{point.batch:<3} {point.context:6} {row.format:14} {row.us['p50']:9.1f} us"
                    f" {row.copy_share:5.0%} of copy {row.faster_than_16bit:6.2f} x 16-bit"
                )
    return {"copy_gb_per_s": {"p50": copy.median, "spread": copy.spread}, "rows": rows, "not_reached": missed}


def end_to_end(run: Run) -> dict[str, Any]:
    """Decoding steps of a random model: transformers' own caches and compressed ones, in turn."""
    shape = TINY if run.quick else LLAMA_8B
    batch, context, steps = (2, 300, 4) if run.quick else (8, 16384, 12)
    torch.manual_seed(0)
    with torch.device(run.device):
        model = LlamaForCausalLM(LlamaConfig(dtype=torch.bfloat16, **shape)).bfloat16()
        ids = torch.randint(0, int(shape["vocab_size"]), (batch, context))
    contenders: dict[str, Callable[[], Cache]] = {
        "transformers, dynamic": lambda: DynamicCache(config=model.config),
        "transformers, static": lambda: StaticCache(config=model.config, max_cache_len=context + steps + 2),
        **{name: _compressed(model, FORMATS[name]) for name in END_TO_END},
    }
    rows = {}
    for name, make in contenders.items():
        if run.left(0.8) <= 0:
            rows[name] = {"failed": "no time left"}
            continue
        try:
            rows[name] = _decode(model, ids, make(), steps)
        except (AutoKVError, RuntimeError) as error:
            rows[name] = {"failed": str(error).splitlines()[0]}
        print(f"{name:24} {json.dumps(rows[name])[:160]}", flush=True)
    return {"batch": batch, "context": context, "layers": shape["num_hidden_layers"], "caches": rows}


def _compressed(model: PreTrainedModel, config: CompressionConfig) -> Callable[[], Cache]:
    return lambda: CompressedCache.from_config(model, config)


@torch.inference_mode()
def _decode(model: PreTrainedModel, ids: torch.Tensor, cache: Cache, steps: int) -> dict[str, Any]:
    """Prefill ``ids``, then ``steps`` greedy steps, timed one by one; the first one warms and is not counted."""
    cuda = ids.device.type == "cuda"
    before = 0
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()

    def step(tokens: torch.Tensor) -> tuple[torch.Tensor, float]:
        started = time.perf_counter()
        logits = model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        following = logits[:, -1].argmax(dim=-1, keepdim=True)
        if cuda:
            torch.cuda.synchronize()
        return following, (time.perf_counter() - started) * 1e3

    tokens, prefill_ms = step(ids)
    held = torch.cuda.memory_allocated() - before if cuda else None
    peak = torch.cuda.max_memory_allocated() - before if cuda else None
    times = []
    for _ in range(steps + 1):
        tokens, milliseconds = step(tokens)
        times.append(milliseconds)
    return {
        "prefill_ms": prefill_ms,
        "step_ms": percentiles(times[1:]),
        "kv_bytes": getattr(cache, "nbytes", None),
        "allocated_bytes_after_prefill": held,
        "peak_bytes_of_prefill": peak,
    }


def tuning(run: Run) -> dict[str, Any]:
    """A short search on SmolLM2 that serves the example trace, so that what serving costs is measured as well."""
    seconds = run.left() - 30
    if seconds < 30:
        return {"failed": "no time left"}
    trials = "4" if run.quick else "40"
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "model": str(demo_model_path()),
            "device": str(run.device),
            "trials": trials,
            "timeout": str(round(seconds * 0.6)),
            "workload": str(example_trace()),
            "rate": "20",
            "max-context-tokens": "512" if run.quick else "4096",
            "output": folder,
            "database": f"sqlite:///{folder}/autokv.db",
        }
        given = [part for name, value in options.items() for part in (f"--{name}", value)]
        command = [sys.executable, "-c", "from autokv.cli.main import main; main()", "tune", *given]
        started = time.monotonic()
        subprocess.run(command, check=True, timeout=seconds, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        taken = time.monotonic() - started
        front = json.loads((Path(folder) / "pareto.json").read_text(encoding="utf-8"))
    return {"seconds": taken, "trials_asked": int(trials), "front": [_shown(point) for point in front]}


def _shown(point: Mapping[str, Any]) -> dict[str, Any]:
    names = ("kl_divergence", "kv_bytes_per_token", "attention_us", "attention_baseline_us")
    metrics = point["validation"]["metrics"]
    return {"config": point["config"], "roles": point["roles"], **{name: metrics[name]["mean"] for name in names}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small shapes: a rehearsal, not a measurement")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu.json")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("--device: there is no CUDA device; rehearse with --device cpu --quick --output FILE")
    if options.quick and options.output == RESULTS / "gpu.json":
        sys.exit("--quick: figures of a rehearsal are no result; give --output another file")
    run = Run(device, backend(device), options.quick, options.output)
    run.part("parity", parity)
    run.part("launches", launches)
    run.part("kernel_table", kernel_table)
    run.part("end_to_end", end_to_end)
    run.part("tuning", tuning)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
