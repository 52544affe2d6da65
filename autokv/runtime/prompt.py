"""The prompt of a layer, compressed as soon as it has attended to itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from autokv.compression import CompressedKV, compress
from autokv.compression.bitmap import decode_kept
from autokv.errors import RequestError
from autokv.kernels import Operands, join, select
from autokv.runtime.attention import AttentionCall
from autokv.runtime.plan import Plan


@dataclass(frozen=True)
class CompressedPrompt:
    """The prompts of a batch in one layer."""

    held: Operands
    kept: Tensor | None
    """uint8 ``[rows, bytes]``, see :mod:`autokv.compression.bitmap`; None if every token of every prompt stays."""
    tokens: tuple[int, ...]
    """Tokens of every prompt before eviction, padding left out."""
    newest: int
    """Tokens that went into the window."""

    def kept_positions(self, batch: int, head: int) -> Tensor:
        """int64, ascending; padding has no position."""
        if self.kept is None:
            return torch.arange(self.tokens[batch], device=self.held.keys.window.device)
        return decode_kept(self.kept[batch * self.held.kv_heads + head])

    def without_window(self) -> CompressedPrompt:
        """The same without the window's tokens, which are held elsewhere."""
        sides = (
            replace(side, window=side.window.new_empty(side.window.shape[0], 0, side.window.shape[2]))
            for side in (self.held.keys, self.held.values)
        )
        keys, values = sides
        return replace(self, held=replace(self.held, keys=keys, values=values))

    def select(self, entries: Tensor) -> CompressedPrompt:
        """The batch ``entries`` (int64, any order, repeats allowed)."""
        tokens = self.tokens
        alike = len(set(tokens)) == 1
        chosen = tokens[:1] * len(entries) if alike else tuple(tokens[entry] for entry in entries.tolist())
        kept = self.kept
        if kept is not None:
            kept = kept.view(self.held.batch, -1).index_select(0, entries).view(-1, kept.shape[1])
        return replace(self, held=select(self.held, entries), kept=kept, tokens=chosen)


def compress_prompt(plan: Plan, call: AttentionCall, layer_index: int) -> CompressedPrompt:
    """Compress the keys and values of ``call``, every sequence without its padding.

    Raises:
        RequestError: a sequence is all padding, or its first chunk is.
    """
    valid = _valid(call.mask)
    if valid is None:
        whole = _compress(plan, call, layer_index)
        tokens = (call.key.shape[2],) * call.key.shape[0]
        return CompressedPrompt(whole.held, whole.kept, tokens, whole.held.newest)
    places = [row.nonzero().view(-1) for row in valid]
    if min(len(place) for place in places) == 0:
        raise RequestError(
            f"the first {valid.shape[1]} tokens of a prompt in the batch are all padding",
            field="attention_mask",
            remedy="make prefill_chunk_size larger than the padding; leave the prompt out if it is empty",
        )
    calls = [_entry(call, entry, place) for entry, place in enumerate(places)]
    parts = [_compress(plan, part, layer_index) for part in calls]
    newest = min(part.held.newest for part in parts)
    parts = [
        part if part.held.newest == newest else _compress(plan, alone, layer_index, newest)
        for part, alone in zip(parts, calls, strict=True)
    ]
    held = join([part.held for part in parts])
    return CompressedPrompt(held, _join_kept(parts), tuple(len(place) for place in places), newest)


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


def _join_kept(parts: Sequence[CompressedKV]) -> Tensor | None:
    if all(part.kept is None for part in parts):
        return None
    widest = -(-max(part.context_tokens for part in parts) // 8)
    bitmaps = [_bitmap(part) for part in parts]
    return torch.cat([F.pad(bitmap, (0, widest - bitmap.shape[1])) for bitmap in bitmaps])


def _bitmap(part: CompressedKV) -> Tensor:
    if part.kept is not None:
        return part.kept
    rows, tokens = part.held.older.count, part.context_tokens
    bitmap = torch.full((rows, -(-tokens // 8)), 255, dtype=torch.uint8, device=part.held.keys.window.device)
    bitmap[:, -1] = 255 >> -tokens % 8
    return bitmap
