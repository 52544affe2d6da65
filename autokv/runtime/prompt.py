"""The prompt of a layer, compressed as soon as it has attended to itself."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from autokv.compression import CompressedKV, compress
from autokv.errors import RequestError
from autokv.runtime.attention import AttentionCall
from autokv.runtime.plan import Plan


def compress_prompt(plan: Plan, call: AttentionCall, layer_index: int) -> CompressedKV:
    """Compress the keys and values of ``call``, every sequence without its padding.

    Raises:
        RequestError: a sequence is all padding, or its first chunk is.
    """
    valid = _valid(call.mask)
    if valid is None:
        return _compress(plan, call, layer_index)
    places = [row.nonzero().view(-1) for row in valid]
    if min(len(place) for place in places) == 0:
        raise RequestError(
            f"the first {valid.shape[1]} tokens of a prompt in the batch are all padding",
            field="attention_mask",
            remedy="make prefill_chunk_size larger than the padding; leave the prompt out if it is empty",
        )
    calls = [_entry(call, entry, place) for entry, place in enumerate(places)]
    parts = [_compress(plan, part, layer_index) for part in calls]
    recent = min(part.held.residual_tokens for part in parts)
    return CompressedKV.join(
        [
            part if part.held.residual_tokens == recent else _compress(plan, alone, layer_index, recent)
            for part, alone in zip(parts, calls, strict=True)
        ]
    )


def _compress(plan: Plan, call: AttentionCall, layer_index: int, longest_window: int | None = None) -> CompressedKV:
    context = plan.contexts.of(call, plan.needs, layer_index)
    limit = {} if longest_window is None else {"longest_window": longest_window}
    return compress(call.key, call.value, context, plan.config, **limit)


def _valid(mask: Tensor | None) -> Tensor | None:
    """bool ``[batch, tokens]``: what is no padding, as the last query sees it; None if nothing is."""
    if mask is None:
        return None
    last = mask[:, 0, -1]
    valid = last if last.dtype == torch.bool else last == 0
    return None if bool(valid.all()) else valid


def _entry(call: AttentionCall, entry: int, places: Tensor) -> AttentionCall:
    query, key, value = (tensor[entry : entry + 1, :, places] for tensor in (call.query, call.key, call.value))
    return replace(call, query=query, key=key, value=value)
