"""Every fact of a job, under names that people use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autokv.evaluation.metrics import METRICS
from autokv.evaluation.naming import LABELS, label, unit
from autokv.serving.verdict import size_text

LONG = 12
"""A list of more values than this is shortened."""
NAMES = {
    # the model
    "model_type": "type",
    "head_dim": "head dimension",
    "kv_heads": "KV heads",
    "layer_kinds": "kinds of layers",
    "full_layers": "full-attention layers",
    "sliding_window": "sliding window (tokens)",
    "rope": "RoPE",
    "rope_type": "kind",
    "rope_theta": "base",
    "original_max_position_embeddings": "original context (tokens)",
    "partial_rotary_factor": "share of rotated channels",
    "vocab_size": "vocabulary size",
    "attention_softcap": "attention soft cap",
    "switch_tokens": "LongRoPE switches behind (tokens)",
    "windowed_kv_bytes": "16-bit KV cache of sliding layers, at most",
    # the device
    "memory_bytes": "memory",
    "torch_version": "PyTorch",
    "copy_gb_per_s": "memory copy (GB/s)",
    "float32_gflops": "float32 (GFLOP/s)",
    "bfloat16_gflops": "bfloat16 (GFLOP/s)",
    "float16_gflops": "float16 (GFLOP/s)",
    "float8_gflops": "fp8 (GFLOP/s)",
    "int8_gops": "int8 (GOP/s)",
    "link_gb_per_s": "link to the host (GB/s)",
    "launch_us": "shortest operation (µs)",
    "source": "source of the figures",
    "dtype": "precision",
    # the workload and how it is served
    "trace": "file",
    "duration_s": "duration (s)",
    "requests_per_s": "arrivals (requests/s)",
    "input_tokens": "input tokens,",
    "output_tokens": "output tokens,",
    "kv_memory_bytes": "KV memory",
    "slo": "SLO:",
    "ttft_ms": "time to first token (ms)",
    "tpot_ms": "time per output token (ms)",
    "max_num_batched_tokens": "tokens of a step, at most",
    "max_num_seqs": "requests in flight, at most",
    "order": "order of requests",
    "block_size": "tokens of a block",
    "options": "",
    "basis": "costs are",
    "sample": "requests served, at most",
    # the prompts
    "calibration": "calibration contexts (tokens)",
    "validation": "validation contexts (tokens)",
    "batch": "sequences timed at once",
    # the request
    "rate": "arrivals (requests/s)",
    "kv_memory": "KV memory",
    "columns": "column of",
    "time_unit": "unit of time",
    "hash_block_size": "tokens of a hashed block",
    "max_bad_rows": "bad rows, at most (share)",
    "maximums": "at most:",
    "minimums": "at least:",
    "utility": "metric that decides",
    "batch_size": "trials at once",
    "timeout": "time limit (s)",
    "patience": "trials without gain before it stops",
    "seed": "random seed",
    "samples": "calibration prompts",
    "validation_samples": "validation prompts",
    "context_tokens": "context (tokens)",
    "max_context_tokens": "context, at most (tokens)",
    "continuation_tokens": "tokens judged behind a context",
    "space": "search space",
    "autokv": "AutoKV",
    "torch": "PyTorch",
    "transformers": "Transformers",
    "optuna": "Optuna",
    "numpy": "NumPy",
    "python": "Python",
}
"""Keys whose words are not enough; others are printed with spaces for underscores."""
BYTES = frozenset({"memory_bytes", "kv_memory_bytes", "kv_memory", "windowed_kv_bytes"})
_SPREAD = {"median", "spread", "n"}


def leaves(block: object) -> Iterable[tuple[str, str]]:
    """The facts of nested mappings: a name made of the keys, and a printed value; what is empty is left out."""
    kept = block
    if isinstance(block, Mapping):
        kept = {key: value for key, value in block.items() if key != "comparison"}  # a table of its own
    return ((name, value) for name, value in _flat(kept, ()) if value not in ("", "None"))


def name_of(key: str) -> str:
    """One key in words."""
    named = NAMES.get(key)
    return label(key) if named is None and key in LABELS else key.replace("_", " ") if named is None else named


def _flat(block: object, path: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    """Names and values; a long list is shortened, and says so."""
    name = " ".join(filter(None, map(name_of, path))) or "value"
    if isinstance(block, Mapping) and block.keys() >= _SPREAD:
        yield name, f"{_plain(block['median'])} (spread {_plain(block['spread'])}, {block['n']} runs)"
    elif isinstance(block, Mapping):
        for key, value in block.items():
            yield from _flat(value, (*path, str(key)))
    elif isinstance(block, list | tuple | set | frozenset):
        values = [_plain(value) for value in block]
        more = f", … ({len(values)} in all)" if len(values) > LONG else ""
        yield name, ", ".join(values[:LONG]) + more
    else:
        yield name, _value(path[-1] if path else "", block)


def _value(key: str, value: object) -> str:
    if key in BYTES and isinstance(value, int | float):
        return size_text(value)
    mark = unit(key) if key in METRICS and key not in NAMES else ""
    return f"{_plain(value)} {mark}".strip()


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, str):
        return label(value) if value in METRICS else value
    return f"{value:.6g}" if isinstance(value, float) else str(value)
