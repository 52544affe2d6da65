"""Decode attention in Triton: the queries against the cache as it is stored, split over its tokens.

A call launches one kernel for every part (:mod:`.split`) and one that merges their splits; keys in another
basis take one more for the queries, and parts whose values leave different bases one more each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from autokv.kernels.autotune import Key, Launch, bucket, choose
from autokv.kernels.decode_attention import Attention
from autokv.kernels.decode_attention.triton.basis import combine_kernel, query_kernel
from autokv.kernels.decode_attention.triton.split import split_kernel
from autokv.kernels.decode_attention.triton.splits import Splits, candidates, split_tokens
from autokv.kernels.decode_attention.triton.structures import (
    Format,
    Held,
    Matrix,
    Partial,
    Query,
    Ragged,
    Shape,
    Sizes,
    Space,
)
from autokv.kernels.operands import Float8, Integers, Operands, Side
from autokv.kernels.rows import Rows
from autokv.kernels.triton_backend import interpreted

_BASIS_STEP = 32


@dataclass(frozen=True)
class _Plan:
    """One part's launch."""

    part: Operands
    keys: Format
    values: Format
    launch: Launch
    splits: Splits

    @property
    def transformed(self) -> bool:
        """The splits of older tokens leave outputs that still need a basis or a low-rank residual."""
        side = self.part.values
        return self.splits.older > 0 and (side.rotated or side.basis is not None or side.low_rank_residual is not None)

    @property
    def only_rotated(self) -> bool:
        """All that the outputs need is the rotation that every part shares."""
        side = self.part.values
        return side.rotated and side.basis is None and side.low_rank_residual is None


@dataclass(frozen=True)
class _Space:
    """Slots whose outputs leave one basis together."""

    plan: _Plan
    first: int
    last: int


def decode_attention(
    query: Tensor,
    parts: Sequence[Operands],
    scaling: float,
    *,
    softcap: float | None = None,
    sliding_window: int | None = None,
) -> Attention:
    """See :class:`autokv.kernels.decode_attention.DecodeAttention`; accumulated in float32."""
    batch, query_heads, head_dim = query.shape
    rows = parts[0].older.count
    group = batch * query_heads // rows
    query = query.contiguous()
    plans = [_plan(part, rows, group, sliding_window, query.device) for part in parts]
    older_slots, window_slots, spaces, plain_first, slots = _assign_slots(plans)
    output = torch.empty_like(query)
    lse = torch.empty(batch, query_heads, dtype=torch.float32, device=query.device)
    if slots == 0:
        return Attention(output.zero_(), lse.fill_(-torch.inf))
    width = max(head_dim, *(plan.values.width + plan.values.rank for plan in plans))
    partial = Partial(
        torch.empty(rows * group, slots, width, dtype=torch.float32, device=query.device),
        torch.empty(rows * group, slots, dtype=torch.float32, device=query.device),
    )
    for index, plan in enumerate(plans):
        if plan.splits.older + plan.splits.window:
            _attend(
                plan, query, group, partial, scaling, softcap, sliding_window,
                parts[index + 1 :], older_slots[index], window_slots[index],
            )  # fmt: skip
    _combine(spaces, plain_first, group, partial, output, lse)
    return Attention(output, lse)


def _plan(part: Operands, rows: int, group: int, seen: int | None, device: torch.device) -> _Plan:
    keys, values = Format.of(part.keys), Format.of(part.values)
    longest = part.older.longest
    key, launches = _choices(keys, values, part.head_dim, group, bucket(rows), bucket(longest))
    launch = choose("decode_attention", key, launches, device)
    blocks = rows * -(-group // launch["HEADS"])
    step = max(launch["TOKENS"], keys.step, values.step)
    splits = split_tokens(blocks, longest, part.residual_tokens, step, launch.warps, seen, device)
    return _Plan(part, keys, values, launch, splits)


@lru_cache(maxsize=4096)
def _choices(
    keys: Format, values: Format, head_dim: int, group: int, rows: int, longest: int
) -> tuple[Key, tuple[Launch, ...]]:
    """What a launch is looked up by, and the candidates."""
    formats = (field for side in (keys, values) for field in (side.name, side.axis, side.group_size))
    return (*formats, head_dim, min(group, 64), rows, longest), candidates(keys, values, group)


def _assign_slots(plans: Sequence[_Plan]) -> tuple[list[int], list[int], list[_Space], int, int]:
    """Where each part's splits of older tokens and of its residual window go; those that need a basis first."""
    older = [0] * len(plans)
    spaces: list[_Space] = []
    slots = 0
    for index in sorted(range(len(plans)), key=lambda index: plans[index].only_rotated):
        plan = plans[index]
        if not plan.transformed:
            continue
        older[index] = slots
        slots += plan.splits.older
        if plan.only_rotated and spaces and spaces[-1].plan.only_rotated:
            spaces[-1] = _Space(plan, spaces[-1].first, slots)
        else:
            spaces.append(_Space(plan, older[index], slots))
    plain_first = slots
    window = [0] * len(plans)
    for index, plan in enumerate(plans):
        if not plan.transformed:
            older[index] = slots
            slots += plan.splits.older
        window[index] = slots
        slots += plan.splits.window
    return older, window, spaces, plain_first, slots


def _attend(
    plan: _Plan,
    query: Tensor,
    group: int,
    partial: Partial,
    scaling: float,
    softcap: float | None,
    sliding_window: int | None,
    later: Sequence[Operands],
    older_slot: int,
    window_slot: int,
) -> None:
    """Fill the slots of one part."""
    part, splits, older = plan.part, plan.splits, plan.part.older
    keys, values = _held(part.keys, older), _held(part.values, older)
    behind, later_tokens = sum(other.residual_tokens for other in later), None
    if sliding_window is not None:
        behind += sum(other.older.longest for other in later if other.older.offsets is None)
        ragged = [other.older.offsets.diff() for other in later if other.older.offsets is not None]
        later_tokens = torch.stack(ragged).sum(0) if ragged else None
    sizes = Sizes(
        longest=older.longest,
        residual_tokens=part.residual_tokens,
        later=behind,
        sliding_window=sliding_window or 0,
        chunk=splits.older_chunk,
        older_splits=splits.older,
        window_chunk=splits.window_chunk,
        k_capacity=keys.residual_window.stride(0) // part.head_dim,
        v_capacity=values.residual_window.stride(0) // part.head_dim,
        first_slot=older_slot,
        window_slot=window_slot,
        slots=partial.output.shape[1],
    )
    shape = Shape(
        head_dim=part.head_dim,
        group=group,
        partial_width=partial.output.shape[2],
        ragged=older.offsets is not None,
        softcap=softcap is not None,
        sliding=sliding_window is not None,
        has_older=splits.older > 0,
        has_window=splits.window > 0,
        interpreted=interpreted(),
    )
    queries = _into_basis(query, part.keys, plan.keys, group) if splits.older else Query(query, query, None)
    grid = (older.count * -(-group // plan.launch["HEADS"]), splits.older + splits.window)
    split_kernel[grid](
        queries, keys, values, Ragged(older.offsets, later_tokens), partial, scaling, softcap or 0.0, *sizes,
        SHAPE=shape, K=plan.keys, V=plan.values, **plan.launch.arguments(),
    )  # fmt: skip


def _into_basis(query: Tensor, side: Side, form: Format, group: int) -> Query:
    """The queries where the packed keys are, and times the right factor of the low-rank residual."""
    moved, residual = side.rotated or side.basis is not None, side.low_rank_residual
    if not moved and residual is None:
        return Query(query, query, None)
    count, head_dim = query.shape[0] * query.shape[1], query.shape[2]
    coordinates = torch.empty(count, form.width, dtype=torch.float32, device=query.device) if moved else query
    low_rank = torch.empty(count, form.rank, dtype=torch.float32, device=query.device) if form.rank else None
    query_kernel[(count,)](
        Query(query, coordinates, low_rank),
        *_matrices(side),
        GROUP=group,
        SPACE=_space(side, form, head_dim),
        STEP=_BASIS_STEP,
    )
    return Query(query, coordinates, low_rank)


def _combine(
    spaces: Sequence[_Space], plain_first: int, group: int, partial: Partial, output: Tensor, lse: Tensor
) -> None:
    """Merge all slots into ``output`` and ``lse``, one launch for every basis; all but the last leave float32."""
    count, slots, width = partial.output.shape
    earlier: Partial | None = None
    for space in spaces or (None,):
        side = None if space is None else space.plan.part.values
        own = Space(output.shape[-1])
        if space is not None:
            own = _space(space.plan.part.values, space.plan.values, output.shape[-1])
        last = space is None or space is spaces[-1]
        merged = Partial(output, lse)
        if not last:
            merged = Partial(torch.empty_like(output, dtype=torch.float32), torch.empty_like(lse))
        combine_kernel[(count,)](
            partial,
            earlier,
            merged,
            *_matrices(side),
            slots,
            space.first if space else 0,
            space.last if space else 0,
            plain_first,
            GROUP=group,
            PARTIAL_WIDTH=width,
            SPACE=own,
            PLAIN=last,
            SLOTS=16 if slots <= 16 else 64,
            INTERPRETED=interpreted(),
            STEP=_BASIS_STEP,
            num_warps=4 if slots <= 16 else 8,
        )
        earlier = merged


def _space(side: Side, form: Format, head_dim: int) -> Space:
    return Space(head_dim, form.width, form.rank, side.rotated and side.basis is None, side.basis is not None)


def _held(side: Side, older: Rows) -> Held:
    """``side`` as the kernel takes it."""
    packed, window, residual = side.packed, _window(side.residual_window), side.low_rank_residual
    left = None if residual is None else residual.left
    match packed:
        case Integers():
            groups = older.groups(packed.group_size).offsets if packed.axis == "channel" else None
            return Held(packed.codes, packed.scale, packed.minimum, groups, left, window)
        case Float8():
            return Held(packed.codes, packed.scale, None, None, left, window)
    return Held(packed.data, None, None, None, left, window)


def _matrices(side: Side | None) -> tuple[Matrix | None, Matrix | None]:
    """The latent basis, and the right factor of the low-rank residual."""
    residual = None if side is None else side.low_rank_residual
    basis, right = None if side is None else side.basis, None if residual is None else residual.right
    return _matrix(basis), _matrix(right)


def _matrix(entries: Tensor | None) -> Matrix | None:
    return None if entries is None else Matrix(entries, *entries.stride())


def _window(window: Tensor) -> Tensor:
    """A residual window of which the kernel can tell rows apart by whole tokens."""
    head_dim = window.shape[2]
    if window.stride(2) == 1 and window.stride(1) == head_dim and window.stride(0) % head_dim == 0:
        return window
    return window.contiguous()
