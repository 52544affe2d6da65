"""Greedy decoding of one sequence, timed, with any cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from autokv.runtime.cache import CompressedCache


@dataclass(frozen=True)
class Decoding:
    """What came out, and how long it took."""

    tokens: tuple[int, ...]
    chosen: tuple[int, ...]
    """The likeliest token at every place; :attr:`tokens` unless those were given."""
    prefill_seconds: float
    decode_seconds: float
    """Of all tokens but the first, which the prefill gives."""

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed; 0 for less than two tokens."""
        return (len(self.tokens) - 1) / self.decode_seconds if len(self.tokens) > 1 else 0.0


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    ids: Tensor,
    cache: Cache,
    max_new_tokens: int,
    *,
    stop: frozenset[int] = frozenset(),
    forced: Sequence[int] | None = None,
    on_token: Callable[[int], None] = lambda token: None,
) -> Decoding:
    """Continue the prompt ``ids`` ``[1, tokens]`` greedily, until a token of ``stop`` or ``max_new_tokens``.

    With ``forced``, those tokens are fed instead of what is chosen, so that two caches do the same work. ``on_token``
    is told every token as soon as it is known, before the next step; its time does not count.
    """
    wanted = len(forced) if forced is not None else max_new_tokens
    tokens: list[int] = []
    chosen: list[int] = []
    current, told, began = ids, 0.0, time.perf_counter()
    first = began
    while len(tokens) < wanted:
        logits = model(current, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        chosen.append(int(logits[0, -1].argmax()))
        if not tokens:
            first = time.perf_counter()
        tokens.append(chosen[-1] if forced is None else forced[len(tokens)])
        before = time.perf_counter()
        on_token(tokens[-1])
        told += time.perf_counter() - before
        if tokens[-1] in stop:
            break
        current = torch.tensor([[tokens[-1]]], device=ids.device)
    return Decoding(tuple(tokens), tuple(chosen), first - began, time.perf_counter() - first - told)


def held_bytes(cache: Cache) -> int:
    """Bytes of the keys and values that ``cache`` holds."""
    if isinstance(cache, CompressedCache):
        return cache.nbytes
    layers: list[Any] = [layer for layer in cache.layers if getattr(layer, "is_initialized", False)]
    return sum(tensor.nbytes for layer in layers for tensor in (layer.keys, layer.values))
