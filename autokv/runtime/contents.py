"""What one layer of a compressed cache holds: the prompt, what was generated and left the residual window, and that."""

from __future__ import annotations

import sys
from dataclasses import replace

import torch
from torch import Tensor

from autokv.compression import CompressedKV, LayerContext
from autokv.compression.budgets import GenerationBudget
from autokv.compression.eviction import Block
from autokv.compression.extend import extend
from autokv.compression.kept import decode_kept, pack_bits
from autokv.config import NoStage
from autokv.kernels import Operands, Side, held_tensors, select
from autokv.runtime.growth import Growth
from autokv.runtime.residual_window import ResidualWindow


class LayerContents:
    """One layer's tokens. The prompt never changes; the residual window opens when the first token is appended.

    Args:
        growth: how generated tokens are held.
        prompt: the compressed prompt.
        context: the layer, without statistics of the prompt.
    """

    def __init__(self, growth: Growth, prompt: CompressedKV, context: LayerContext) -> None:
        self.growth, self._prompt, self._context = growth, prompt, context
        self._older: Operands | None = None
        self._window: ResidualWindow | None = None
        stage = growth.eviction
        self._budget = GenerationBudget(stage, context.layer_index, context.layer_count) if stage else None
        self._recent = prompt.held.residual_tokens
        """Tokens of the prompt that went into the residual window."""
        self._from_prompt = self._recent
        """Those that have not left it."""
        self._judged: Tensor | None = None
        """uint8 ``[rows, bytes]``: a bit for every token that left it, set if the token stayed; with an eviction."""
        self._generated = 0

    @property
    def batch(self) -> int:
        """Sequences."""
        return self._prompt.held.batch

    @property
    def rows(self) -> int:
        """Sequences times KV heads."""
        return self._prompt.held.older.count

    @property
    def next_positions(self) -> list[int]:
        """The position behind every sequence, padding left out."""
        return [tokens + self._generated for tokens in self._prompt.tokens]

    def append(self, keys: Tensor, values: Tensor) -> ResidualWindow:
        """Add ``[rows, n, head_dim]``, n as many as :meth:`room` at most, to the residual window, which is returned.

        Without a window they are compressed at once.
        """
        window = self.window
        if window.capacity:
            window.append(keys, values)
        else:
            self._compress(keys, values)
        self._generated += keys.shape[1]
        return window

    @property
    def blocks_are_alike(self) -> bool:
        """Whether blocks are encoded as each is alone: none is judged, and the prompt has told what they need."""
        pipeline = self.growth.config.pipeline
        return (
            self.growth.eviction is None
            and isinstance(pipeline.low_rank, NoStage)
            and int(self._prompt.held.older.lengths.min()) > 0
        )

    def append_in_turn(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Add ``[rows, n, head_dim]``, any n, where :attr:`blocks_are_alike`; all that leaves is encoded at once.

        Returns:
            Keys and values ``[rows, used + n, head_dim]`` of the window as it was and the new tokens behind it; for
            each new token, how many of these had left when it had just come.
        """
        window, growth, new = self.window, self.growth, keys.shape[1]
        self._generated += new
        if not window.capacity:
            self._compress(keys, values)
            return keys, values, [new] * new
        before, block, gone, left = window.used, growth.block, 0, []
        for arrived in range(before, before + new):
            if arrived - gone == window.capacity:
                gone += block
            left.append(gone)
        exact = window.pass_on(keys, values, gone)
        if gone:
            self._compress(*(tokens[:, :gone] for tokens in exact))
        return *exact, left

    def room(self) -> int:
        """Tokens that can be appended, at least one: a block leaves the residual window if there is no other way."""
        window, growth = self.window, self.growth
        if not window.capacity:
            return sys.maxsize
        if not window.room:
            keys, values = window.leave(growth.block, self._choose(window), growth.group)
            if keys.shape[1]:
                self._compress(keys, values)
        return window.room

    @property
    def window(self) -> ResidualWindow:
        """The residual window, opened with the prompt's part of it when it is first asked for."""
        if self._window is None:
            growth, held = self.growth, self._prompt.held
            scored = growth.watched != "nothing"
            self._window = ResidualWindow(
                held.keys.residual_window, held.values.residual_window, growth.capacity, scored=scored
            )
            self._prompt = self._prompt.without_window()
        return self._window

    @property
    def prompt(self) -> Operands:
        """The prompt, without what is in :attr:`window`."""
        _ = self.window
        return self._prompt.held

    @property
    def generated(self) -> Operands | None:
        """What has left the residual window; None if nothing has."""
        return self._older

    def parts(self) -> list[Operands]:
        """What attention reads, oldest first: the prompt, and what was generated with the residual window behind it."""
        prompt, older, window = self._prompt.held, self._older, self._window
        if window is None:
            return [prompt]
        keys, values = window.tokens()
        last = older or prompt
        last = replace(
            last,
            keys=replace(last.keys, residual_window=keys),
            values=replace(last.values, residual_window=values),
        )
        return [last] if older is None or prompt.older.longest == 0 else [prompt, last]

    def select(self, entries: Tensor) -> None:
        """Keep the batch ``entries`` (int64, any order, repeats allowed), in memory of their own."""
        before, kv_heads = self._prompt.held, self._prompt.held.kv_heads
        entries = entries.to(before.keys.residual_window.device)
        rows = (entries[:, None] * kv_heads + torch.arange(kv_heads, device=entries.device)).view(-1)
        self._prompt = self._prompt.select(entries)
        if self._older is not None:
            older, now = select(self._older, entries), self._prompt.held
            self._older = replace(
                older,
                keys=_share(older.keys, self._older.keys, before.keys, now.keys),
                values=_share(older.values, self._older.values, before.values, now.values),
            )
        if self._window is not None:
            self._window.select(rows)
        if self._judged is not None:
            self._judged = self._judged.index_select(0, rows)

    def held(self) -> list[Tensor]:
        """Every tensor that is held, once."""
        window = self._window.held() if self._window is not None else []
        tensors = [*held_tensors(self._prompt), *held_tensors(self._older), *window, *held_tensors(self._judged)]
        return list({id(tensor): tensor for tensor in tensors}.values())

    def kept_positions(self, batch: int, head: int) -> Tensor:
        """Positions of the tokens that one KV head holds, int64, ascending; padding has none."""
        prompt = self._prompt
        positions = prompt.kept_positions(batch, head)
        older, recent = positions.tensor_split([len(positions) - self._recent])
        first = prompt.tokens[batch]
        arrived = torch.cat([recent, torch.arange(first, first + self._generated, device=positions.device)])
        if self._judged is None:
            return torch.cat([older, arrived])
        row = self._judged[batch * prompt.held.kv_heads + head]
        return torch.cat([older, arrived[decode_kept(row)], arrived[8 * len(row) :]])

    def _compress(self, keys: Tensor, values: Tensor) -> None:
        before, growth = self._prompt.held, self.growth
        dtype = before.keys.residual_window.dtype
        self._older = extend(self._older, keys, values, before, growth.config.pipeline, dtype, growth.kernels)

    def _choose(self, window: ResidualWindow) -> Tensor | None:
        """int64 ``[rows, k]``, ascending: which tokens of the oldest block stay; None if all do."""
        growth, budget = self.growth, self._budget
        stage, scorer, block = growth.eviction, growth.scorer, growth.block
        if stage is None or scorer is None or budget is None:
            return None
        # What came from the prompt was chosen when the prompt was compressed.
        chosen = min(self._from_prompt, block)
        self._from_prompt -= chosen
        number = budget.left // block
        stays = chosen + budget.share(block - chosen, self._prompt.tokens)
        kept = torch.arange(block, device=window.keys.device).expand(self.rows, -1)
        if stays < block:
            shape = (self.batch, self._prompt.held.kv_heads, window.used - window.pending)
            fresh = slice(window.pending, window.used)
            keys, values = (tokens[:, fresh].view(*shape, -1) for tokens in (window.keys, window.values))
            received = None if window.received is None else window.received[:, fresh].view(shape)
            judged = Block(keys, values, received, block, number)
            scores = scorer.score_block(judged, self._context, stage).reshape(self.rows, block)
            protected = torch.arange(block, device=scores.device) < chosen
            kept = scores.masked_fill(protected, torch.inf).topk(stays, dim=-1).indices.sort(dim=-1).values
        bits = torch.zeros(self.rows, block, dtype=torch.uint8, device=kept.device).scatter_(1, kept, 1)
        stayed = pack_bits(bits)
        self._judged = stayed if self._judged is None else torch.cat([self._judged, stayed], dim=1)
        return kept if stays < block else None


def _share(side: Side, was: Side, prompt_was: Side, prompt: Side) -> Side:
    """``side`` with the prompt's own basis and right factor of the low-rank residual, where they were one."""
    basis = prompt.basis if was.basis is prompt_was.basis else side.basis
    residuals = side.low_rank_residual, was.low_rank_residual, prompt_was.low_rank_residual, prompt.low_rank_residual
    own, before, shared, now = residuals
    if own and before and shared and now and before.right is shared.right:
        own = replace(own, right=now.right)
    return replace(side, basis=basis, low_rank_residual=own)
