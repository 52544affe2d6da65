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
from autokv.kernels.decode_attention.attention import Attention
from autokv.kernels.decode_attention.triton.basis import combine_kernel, query_kernel
from autokv.kernels.decode_attention.triton.format import Format
from autokv.kernels.decode_attention.triton.plan import Splits, candidates, interpreted, split_tokens
from autokv.kernels.decode_attention.triton.split import split_kernel
from autokv.kernels.operands import Float8, Integers, Operands, Side
from autokv.kernels.rows import Rows

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
        """The splits of older tokens leave outputs that still need a basis or a correction."""
        side = self.part.values
        return self.splits.older > 0 and (side.rotated or side.basis is not None or side.left is not None)

    @property
    def only_rotated(self) -> bool:
        """All that the outputs need is the rotation that every part shares."""
        side = self.part.values
        return side.rotated and side.basis is None and side.left is None


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
    partial = torch.empty(rows * group, slots, width, dtype=torch.float32, device=query.device)
    partial_lse = torch.empty(rows * group, slots, dtype=torch.float32, device=query.device)
    for index, plan in enumerate(plans):
        if plan.splits.older + plan.splits.window:
            _attend(
                plan, query, group, partial, partial_lse, scaling, softcap, sliding_window,
                parts[index + 1 :], older_slots[index], window_slots[index],
            )  # fmt: skip
    _combine(spaces, plain_first, group, partial, partial_lse, output, lse)
    return Attention(output, lse)


def _plan(part: Operands, rows: int, group: int, seen: int | None, device: torch.device) -> _Plan:
    keys, values = Format.of(part.keys), Format.of(part.values)
    longest = part.older.longest
    key, launches = _choices(keys, values, part.head_dim, group, bucket(rows), bucket(longest))
    launch = choose("decode_attention", key, launches, device)
    blocks = rows * -(-group // launch["HEADS"])
    step = max(launch["TOKENS"], keys.step, values.step)
    return _Plan(
        part, keys, values, launch, split_tokens(blocks, longest, part.newest, step, launch.warps, seen, device)
    )


@lru_cache(maxsize=4096)
def _choices(
    keys: Format, values: Format, head_dim: int, group: int, rows: int, longest: int
) -> tuple[Key, tuple[Launch, ...]]:
    """What a launch is looked up by, and the candidates."""
    formats = (field for side in (keys, values) for field in (side.name, side.axis, side.group_size))
    return (*formats, head_dim, min(group, 64), rows, longest), candidates(keys, values, group)


def _assign_slots(plans: Sequence[_Plan]) -> tuple[list[int], list[int], list[_Space], int, int]:
    """Where each part's splits of older tokens and of its window go; those that need a basis first."""
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
    partial: Tensor,
    partial_lse: Tensor,
    scaling: float,
    softcap: float | None,
    sliding_window: int | None,
    later: Sequence[Operands],
    older_slot: int,
    window_slot: int,
) -> None:
    """Fill the slots of one part."""
    part, splits, older = plan.part, plan.splits, plan.part.older
    keys, values = part.keys, part.values
    k_window, v_window = _window(keys.window), _window(values.window)
    query_older, query_left = _into_basis(query, keys, plan.keys, group) if splits.older else (query, None)
    later_tokens = None
    behind = sum(other.newest for other in later)
    if sliding_window is not None:
        behind += sum(other.older.longest for other in later if other.older.offsets is None)
        ragged = [other.older.offsets.diff() for other in later if other.older.offsets is not None]
        later_tokens = torch.stack(ragged).sum(0) if ragged else None
    grid = (older.count * -(-group // plan.launch["HEADS"]), splits.older + splits.window)
    split_kernel[grid](
        query,
        query_older,
        query_left,
        *_tensors(keys, older),
        *_tensors(values, older),
        older.offsets,
        later_tokens,
        k_window,
        v_window,
        partial,
        partial_lse,
        scaling,
        softcap or 0.0,
        older.longest,
        part.newest,
        behind,
        sliding_window or 0,
        splits.older_chunk,
        splits.older,
        splits.window_chunk,
        k_window.stride(0) // part.head_dim,
        v_window.stride(0) // part.head_dim,
        older_slot,
        window_slot,
        partial.shape[1],
        HEAD_DIM=part.head_dim,
        GROUP=group,
        PARTIAL_WIDTH=partial.shape[2],
        **plan.keys.arguments["K"],
        **plan.values.arguments["V"],
        RAGGED=older.offsets is not None,
        SOFTCAP=softcap is not None,
        SLIDING=sliding_window is not None,
        HAS_OLDER=splits.older > 0,
        HAS_WINDOW=splits.window > 0,
        INTERPRETED=interpreted(),
        **plan.launch.arguments(),
    )


def _into_basis(query: Tensor, side: Side, form: Format, group: int) -> tuple[Tensor, Tensor | None]:
    """The queries where the packed keys are, and times the right factor of the correction."""
    if not side.rotated and side.basis is None and side.left is None:
        return query, None
    count, head_dim = query.shape[0] * query.shape[1], query.shape[2]
    moved = side.rotated or side.basis is not None
    coordinates = torch.empty(count, form.width, dtype=torch.float32, device=query.device) if moved else query
    left = torch.empty(count, form.rank, dtype=torch.float32, device=query.device) if form.rank else None
    query_kernel[(count,)](
        query,
        side.basis,
        side.right,
        coordinates,
        left,
        *_strides(side.basis),
        *_strides(side.right),
        GROUP=group,
        HEAD_DIM=head_dim,
        WIDTH=form.width,
        RANK=form.rank,
        ROTATED=side.rotated and side.basis is None,
        LATENT=side.basis is not None,
        STEP=_BASIS_STEP,
    )
    return coordinates, left


def _combine(
    spaces: Sequence[_Space],
    plain_first: int,
    group: int,
    partial: Tensor,
    partial_lse: Tensor,
    output: Tensor,
    lse: Tensor,
) -> None:
    """Merge all slots into ``output`` and ``lse``, one launch for every basis; all but the last leave float32."""
    count, slots, width = partial.shape
    earlier: Tensor | None = None
    earlier_lse: Tensor | None = None
    every: Sequence[_Space | None] = spaces or (None,)
    for space in every:
        last = space is None or space is spaces[-1]
        side = None if space is None else space.plan.part.values
        form = None if space is None else space.plan.values
        merged = output if last else torch.empty_like(output, dtype=torch.float32)
        merged_lse = lse if last else torch.empty_like(lse)
        combine_kernel[(count,)](
            partial,
            partial_lse,
            earlier,
            earlier_lse,
            None if side is None else side.basis,
            None if side is None else side.right,
            merged,
            merged_lse,
            slots,
            0 if space is None else space.first,
            0 if space is None else space.last,
            plain_first,
            *_strides(None if side is None else side.basis),
            *_strides(None if side is None else side.right),
            GROUP=group,
            HEAD_DIM=output.shape[-1],
            PARTIAL_WIDTH=width,
            WIDTH=0 if form is None else form.width,
            RANK=0 if form is None else form.rank,
            ROTATED=side is not None and side.rotated and side.basis is None,
            LATENT=side is not None and side.basis is not None,
            PLAIN=last,
            EARLIER=earlier is not None,
            SLOTS=16 if slots <= 16 else 64,
            INTERPRETED=interpreted(),
            STEP=_BASIS_STEP,
            num_warps=4 if slots <= 16 else 8,
        )
        earlier, earlier_lse = merged, merged_lse


def _tensors(side: Side, older: Rows) -> tuple[Tensor | None, ...]:
    """Codes, scale, minimum, where each ragged row's groups start, and the correction."""
    packed = side.packed
    if isinstance(packed, Integers):
        groups = older.groups(packed.group_size).offsets if packed.axis == "channel" else None
        return packed.codes, packed.scale, packed.minimum, groups, side.left
    if isinstance(packed, Float8):
        return packed.codes, packed.scale, None, None, side.left
    return packed.data, None, None, None, side.left


def _strides(matrices: Tensor | None) -> tuple[int, ...]:
    return (0, 0, 0) if matrices is None else matrices.stride()


def _window(window: Tensor) -> Tensor:
    """A window of which the kernel can tell rows apart by whole tokens."""
    head_dim = window.shape[2]
    if window.stride(2) == 1 and window.stride(1) == head_dim and window.stride(0) % head_dim == 0:
        return window
    return window.contiguous()
