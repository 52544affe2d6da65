"""The simulator with costs from kernel tables, held against public measurements of real servers.

The logs are vLLM's on one RTX PRO 6000 Blackwell Server Edition, published with LLMServingSim
(https://github.com/casys-kaist/LLMServingSim, bench/examples/RTXPRO6000/MODEL/vllm): every request's lengths, arrival,
first and last token, 300 ShareGPT requests at 10 a second in bfloat16. Nothing is fitted: times are the tables',
lengths, arrivals and the server's settings the log's. Logs are named as MODEL=FILE.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from autokv.hardware import find
from autokv.hardware.silicon import tables_of
from autokv.serving import CostModel, SequenceBytes, ServingOptions, simulate
from autokv.serving.cost_model import ModelShape, Product
from autokv.serving.server_log import read_log
from autokv.serving.silicon_costs import silicon_costs
from common import write_result

DEVICE = "rtx-pro-6000-server"
SOURCE = "https://github.com/casys-kaist/LLMServingSim, bench/examples/RTXPRO6000/{}/vllm"
SETTINGS = ServingOptions(max_num_batched_tokens=2048, max_num_seqs=128)
KV_TOKENS = {"Llama-3.1-8B": 574_608}
"""More than the requests hold: memory was not short."""
POINTS = (("h100-sxm", 1, 512, 6.48), ("h100-sxm", 4, 512, 6.59))
"""(Device, requests in flight, tokens held, milliseconds): median time per output token of Llama 3.1 8B in float16 with
vLLM 0.21. The lengths are not published beyond "chatbot-short"; at so few requests they hardly matter."""
POINTS_SOURCE = "https://yobitelcomm.github.io/bench/recipes/concurrency-sweep/"
STEPS = ((1, 512), (8, 1024), (64, 1024), (128, 1024))
"""(Batch, tokens held) of the steps that are listed for every device."""


def dense(layers: int, hidden: int, heads: int, kv_heads: int, intermediate: int, vocabulary: int) -> ModelShape:
    """A Llama-like model with heads of 128 channels."""
    products = (
        Product((heads + 2 * kv_heads) * 128, hidden, layers),
        Product(hidden, heads * 128, layers),
        Product(2 * intermediate, hidden, layers),
        Product(hidden, intermediate, layers),
        Product(vocabulary, hidden, head=True),
    )
    parameters = sum(product.parameters for product in products) + vocabulary * hidden
    return ModelShape(parameters, 2 * parameters, layers, heads, kv_heads, 128, "bfloat16", products)


MODELS = {"Llama-3.1-8B": dense(32, 4096, 32, 8, 14336, 128_256)}
DEVICES = ("h100-sxm", "h200-sxm", "b200-sxm", "a100-80gb-sxm", "l40s", DEVICE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", nargs="+", help="MODEL=FILE")
    given = parser.parse_args()
    runs = {}
    for pair in given.logs:
        model, _, path = pair.partition("=")
        runs[model] = against(model, Path(path))
        print(model, {name: f"{found['error']:+.1%}" for name, found in runs[model]["figures"].items()})
    points = []
    for device, batch, held, real in POINTS:
        step = 1e3 * costs_of(MODELS["Llama-3.1-8B"], device).decode(batch, held)
        points.append({"device": device, "batch": batch, "held": held, "step_ms": compared(real, step)})
    tables = {"package": "aiconfigurator-core", "version": version("aiconfigurator-core")}
    result = {
        "device": find(DEVICE).name,
        "tables": tables,
        "runs": runs,
        "points": {"source": POINTS_SOURCE, "steps": points},
        "steps_ms": steps(),
    }
    print(f"written to {write_result('silicon', result)}")


def against(model: str, path: Path) -> dict[str, Any]:
    """Figures of the log and of the simulation, in seconds, requests and tokens."""
    log, shape = read_log(path), MODELS[model]
    costs, capacity = costs_of(shape, DEVICE), float(KV_TOKENS[model] * shape.kv_bytes_per_token)
    found = simulate(log.trace, costs, capacity, SETTINGS)
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {
        "tpot_s": (log.tpot_s, found.tpot_s),
        "request_s": (log.finish_s - log.trace.arrival_s, found.e2e_s),
        "ttft_s": (log.ttft_s, found.ttft_s),
    }
    figures = {}
    for name, (real, simulated) in pairs.items():
        for part, figure in (("mean", np.nanmean), ("p50", np.nanmedian)):
            figures[f"{part} {name}"] = compared(float(figure(real)), float(figure(simulated)))
    tokens = float(log.trace.output_tokens.sum())
    figures["throughput_tokens_per_s"] = compared(tokens / float(log.finish_s.max()), tokens / found.duration_s)
    return {
        "source": SOURCE.format(model),
        "requests": len(log.trace),
        "options": vars(SETTINGS) | {"kv_tokens": KV_TOKENS[model]},
        "costs": costs.predicted,
        "figures": figures,
    }


def compared(real: float, simulated: float) -> dict[str, float]:
    return {"log": real, "simulated": simulated, "error": simulated / real - 1}


def costs_of(shape: ModelShape, device: str) -> CostModel:
    profile = find(device)
    tables = tables_of(profile)
    if tables is None:
        raise SystemExit("pip install 'autokv[silicon]'")
    sequence = SequenceBytes(float(shape.kv_bytes_per_token))
    costs = silicon_costs(tables, shape, sequence, device=profile.name, max_batch=SETTINGS.max_num_seqs)
    if costs is None:
        raise SystemExit(f"no tables of such a model on {profile.name}")
    return costs


def steps() -> dict[str, dict[str, float]]:
    """Milliseconds of decoding steps of the 8B model by device."""
    models = {device: costs_of(MODELS["Llama-3.1-8B"], device) for device in DEVICES}
    return {
        device: {f"{batch} x {held}": 1e3 * costs.decode(batch, held) for batch, held in STEPS}
        for device, costs in models.items()
    }


if __name__ == "__main__":
    main()
