"""Decode attention in PyTorch, on any device.

The query goes to the cache, not the cache to the query: the query is taken into the rotated or latent basis, where
the packed coordinates are, scales are applied to queries and weights instead of to codes, the low-rank residual is
applied factor by factor (q·(A Bᵀ)ᵀ = (q B) Aᵀ), and only the output comes back out of the values' basis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from autokv.kernels.decode_attention import Attention, folded, merge
from autokv.kernels.hadamard import rotate
from autokv.kernels.operands import Operands, Side
from autokv.kernels.rows import Rows


def decode_attention(
    query: Tensor,
    parts: Sequence[Operands],
    scaling: float,
    *,
    softcap: float | None = None,
    sliding_window: int | None = None,
) -> Attention:
    """See :class:`autokv.kernels.decode_attention.DecodeAttention`; computed in float32."""
    # The query heads of one KV head become rows of one product: [rows, group, head_dim].
    grouped = query.reshape(parts[0].older.count, -1, query.shape[-1]).float() * scaling
    found: list[Attention] = []
    seen = None if sliding_window is None else torch.full((len(grouped),), sliding_window, device=query.device)
    for part in reversed(parts):
        found.append(_attend(grouped, part, softcap, seen))
        if seen is not None:
            seen = seen - part.older.lengths.to(seen.device) - part.residual_tokens
    output, lse = merge(found)
    return Attention(output.view(query.shape).to(query.dtype), lse.view(query.shape[:2]))


def attention_16bit(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.attention_16bit`."""
    batch, kv_heads, _, head_dim = keys.shape
    if keys.dtype == torch.float16 and keys.device.type == "cpu":
        # Several times faster than attention in float16, which CPUs emulate.
        keys, values = keys.float(), values.float()
    grouped = query.reshape(batch, kv_heads, -1, head_dim).to(keys.dtype)
    return scaled_dot_product_attention(grouped, keys, values, scale=scaling).reshape(query.shape).to(query.dtype)


def _attend(query: Tensor, part: Operands, softcap: float | None, seen: Tensor | None) -> Attention:
    """One part; ``query`` ``[rows, group, head_dim]`` is scaled; of each row the newest ``seen`` tokens count."""
    older = part.older
    scores = torch.cat([_older_scores(query, part.keys, older), query @ part.keys.residual_window.float().mT], dim=-1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    hidden = _hidden(part, seen)
    if hidden is not None:
        scores.masked_fill_(hidden[:, None], -torch.inf)
    if not scores.shape[-1]:
        return Attention(torch.zeros_like(query), scores.new_full(scores.shape[:2], -torch.inf))
    m = scores.amax(dim=-1, keepdim=True)
    # Where nothing is seen, every score is -inf: taken from a finite number the weights are zeros, not NaN.
    weights = scores.sub_(m.clamp_min(torch.finfo(torch.float32).min)).exp_()
    l = weights.sum(dim=-1, keepdim=True)
    acc = _older_output(weights[..., : older.longest], part.values, older)
    acc.baddbmm_(weights[..., older.longest :], part.values.residual_window.float())
    return Attention(acc.div_(l.clamp_min(torch.finfo(torch.float32).tiny)), (m + l.log()).squeeze(-1))


def _hidden(part: Operands, seen: Tensor | None) -> Tensor | None:
    """bool ``[rows, older.longest + residual_tokens]``: the places that hold no token or one that is not seen."""
    older, inside = part.older, part.older.inside()
    hidden = None if inside is None else torch.nn.functional.pad(~inside, (0, part.residual_tokens))
    if seen is None:
        return hidden
    place = torch.arange(older.longest + part.residual_tokens, device=part.keys.residual_window.device)
    # What is not older lies behind the longest row's end.
    gap = older.longest - older.lengths.to(place.device)[:, None]
    from_end = older.longest + part.residual_tokens - place - torch.where(place < older.longest, gap, 0)
    beyond = from_end > seen[:, None]
    return beyond if hidden is None else hidden | beyond


def _older_scores(query: Tensor, side: Side, older: Rows) -> Tensor:
    """``query`` ``[rows, group, head_dim]`` times the older keys: ``[rows, group, longest]``."""
    if side.basis is not None:
        query = query @ side.basis.float()
    elif side.rotated:
        query = rotate(query)
    scores = folded.scores(query, side.packed, older)
    if (residual := side.low_rank_residual) is not None:
        scores.baddbmm_(query @ residual.right.float(), older.to_dense(residual.left).float().mT)
    return scores


def _older_output(weights: Tensor, side: Side, older: Rows) -> Tensor:
    """``weights`` ``[rows, group, longest]`` times the older values: ``[rows, group, head_dim]``."""
    output = folded.output(weights, side.packed, older)
    if (residual := side.low_rank_residual) is not None:
        output.baddbmm_(weights @ older.to_dense(residual.left).float(), residual.right.float().mT)
    if side.basis is not None:
        return output @ side.basis.float().mT
    return rotate(output) if side.rotated else output
