"""Text from a compressed cache against the full cache's: equal tokens, speed and bytes, on SmolLM2.

Every prompt is continued greedily by the full cache and by each configuration on its own (``equal``: the share of
places with the same token; one different token usually changes all that follow), and once more over the full cache's
tokens (``agreed``: the share of places where the same token is the likeliest); all prompts are one batch. Where a text
first differs, ``margins`` tell by how many nats the full cache preferred its token to the next: a small one is a tie.
Speed is measured on one long prompt, a step of each cache in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from autokv.config import CompressionConfig
from autokv.data import builtin_text
from autokv.models import LoadedModel, demo_model_path, load
from autokv.runtime.cache import CompressedCache
from autokv.runtime.decoding import decode, held_bytes
from common import percentiles, write_result


def integers(bits: int, *, group: int = 64, axis: str = "channel", rotation: str = "none") -> dict[str, Any]:
    """Values per token; keys per channel, as KIVI has them, unless ``axis`` says otherwise."""
    return {
        "method": "integer",
        "key": {"bits": bits, "axis": axis, "group_size": group},
        "value": {"bits": bits, "axis": "token", "group_size": group},
        "rotation": rotation,
        "residual_tokens": 128,
    }


SNAPKV = {"method": "snapkv", "keep_ratio": 0.5, "recent_tokens": 32, "options": {"window": 32}}
STAGES: dict[str, dict[str, Any]] = {
    "identity": {},
    "int8": {"quantization": integers(8)},
    "int8, groups of 32": {"quantization": integers(8, group=32)},
    "int8, groups of 32, rotated": {"quantization": integers(8, group=32, rotation="hadamard")},
    "fp8": {"quantization": {"method": "fp8", "residual_tokens": 128}},
    "int4": {"quantization": integers(4)},
    "snapkv": {"eviction": SNAPKV},
    "snapkv, int8": {"eviction": SNAPKV, "quantization": integers(8)},
}
CONFIGS = {name: CompressionConfig.parse({"pipeline": stages}) for name, stages in STAGES.items()}


def prompts(model: LoadedModel, count: int, tokens: int) -> Tensor:
    """Passages of the built-in text, spread over it: ``[count, tokens]``."""
    ids = model.tokenizer(builtin_text().read_text(encoding="utf-8"))["input_ids"]
    starts = [index * (len(ids) - tokens) // max(count - 1, 1) for index in range(count)]
    return torch.tensor([ids[start : start + tokens] for start in starts], device=model.device)


@torch.inference_mode()
def continue_batch(
    model: LoadedModel, ids: Tensor, cache: Cache, count: int, forced: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The likeliest token at ``count`` places behind every prompt, int64 ``[prompts, count]``, and by how many nats.

    Every place follows what was chosen before it, or ``forced``.
    """
    chosen, margins, current = [], [], ids
    for place in range(count):
        logits = model.model(current, past_key_values=cache, logits_to_keep=1).logits
        best = logits[:, -1].float().topk(2)
        chosen.append(best.indices[:, 0])
        margins.append(best.values[:, 0] - best.values[:, 1])
        current = (chosen[-1] if forced is None else forced[:, place])[:, None]
    return torch.stack(chosen, dim=1), torch.stack(margins, dim=1)


def compare(model: LoadedModel, ids: Tensor, new_tokens: int) -> dict[str, dict[str, Any]]:
    """Shares of equal and agreed tokens of every configuration."""
    full, margin = continue_batch(model, ids, DynamicCache(config=model.model.config), new_tokens)
    rows = {}
    for name, config in CONFIGS.items():
        free, forced = (
            continue_batch(model, ids, CompressedCache.from_config(model.model, config), new_tokens, tokens)[0]
            for tokens in (None, full)
        )
        different = free != full
        first = different.int().argmax(dim=1, keepdim=True)
        equal, agreed = ((found == full).float().mean(dim=1) for found in (free, forced))
        rows[name] = {
            "equal": float(equal.mean()),
            "prompts_equal": float((equal == 1).float().mean()),
            "agreed": float(agreed.mean()),
            "worst_prompt_agreed": float(agreed.min()),
            "margins": margin.gather(1, first)[different.any(dim=1), 0].tolist(),
        }
        print(f"{name:28} {rows[name]['equal']:.1%} equal, {rows[name]['agreed']:.1%} agreed", flush=True)
    return rows


@torch.inference_mode()
def time_steps(model: LoadedModel, ids: Tensor, rounds: int) -> dict[str, dict[str, Any]]:
    """Milliseconds of a decode step, a step of every cache in turn, and the bytes that each holds."""
    caches: dict[str, Cache] = {"full": DynamicCache(config=model.model.config)}
    caches |= {name: CompressedCache.from_config(model.model, config) for name, config in CONFIGS.items()}
    held: dict[str, int] = {}
    for name, cache in caches.items():
        decode(model.model, ids, cache, 1)
        held[name] = held_bytes(cache)
        decode(model.model, ids[:, -1:], cache, 2)
    seconds: Mapping[str, list[float]] = {name: [] for name in caches}
    token = ids[:, -1:]
    for _ in range(rounds):
        for name, cache in caches.items():
            began = time.perf_counter()
            int(model.model(token, past_key_values=cache).logits[0, -1].argmax())
            seconds[name].append(1e3 * (time.perf_counter() - began))
    median = percentiles(seconds["full"])["p50"]
    return {
        name: {
            "step_ms": percentiles(seconds[name]),
            "tokens_per_s": 1e3 / percentiles(seconds[name])["p50"],
            "speed_against_full": median / percentiles(seconds[name])["p50"],
            "held_bytes": held[name],
            "bytes_per_token": held[name] / ids.shape[1],
            "smaller_than_16_bit": model.facts.kv_bytes_per_token * ids.shape[1] / held[name],
        }
        for name in caches
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder with weights (default: the demo model)")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--timed-tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=24)
    options = parser.parse_args()
    model = load(options.model or str(demo_model_path()), dtype=options.dtype, device=options.device)
    timed = time_steps(model, prompts(model, 1, options.timed_tokens), options.rounds)
    for name, row in timed.items():
        print(
            f"{name:28} {row['tokens_per_s']:6.1f} tokens/s, {row['speed_against_full']:.2f} of full, "
            f"{row['bytes_per_token']:,.0f} B/token"
        )
    compared = compare(model, prompts(model, options.prompts, options.prompt_tokens), options.new_tokens)
    result = {
        "settings": {"model": model.name, **{key: value for key, value in vars(options).items() if key != "model"}},
        "tokens": compared,
        "speed": timed,
    }
    print(f"written to {write_result('generation', result)}")


if __name__ == "__main__":
    main()
