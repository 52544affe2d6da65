"""A layer of a compressed cache, as transformers sees it."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from autokv.compression import LayerContext
from autokv.errors import ModelError, RequestError
from autokv.models.context import check_room
from autokv.runtime.attention import ATTENTION, AttentionCall, as_stated, mark, plain_attention
from autokv.runtime.contents import LayerContents
from autokv.runtime.continuing import attend_one, attend_several
from autokv.runtime.plan import Plan
from autokv.runtime.prompt import compress_prompt


def open_contents(plan: Plan, call: AttentionCall, layer: int) -> LayerContents:
    """What the model's layer ``layer`` holds of a prompt that ``call`` covers, compressed."""
    full = plan.facts.full_layers
    context = LayerContext(
        layer_index=full.index(layer),
        layer_count=len(full),
        scaling=call.scaling,
        softcap=call.softcap,
        kernels=plan.kernels,
    )
    return LayerContents(plan, compress_prompt(plan, call, context.layer_index), context)


class _WithoutGradient(torch.autograd.Function):
    """Attention over what was compressed, which knows no gradient: a backward pass fails rather than leave it out."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, query: Tensor, name: str) -> Tensor:  # noqa: ANN401 - autograd's own
        ctx.name = name
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> NoReturn:  # noqa: ANN401
        raise ModelError(
            "no gradient flows through tokens that a cache has compressed",
            field=ctx.name,
            remedy="train on whole sequences with use_cache=False, or run the model under torch.no_grad()",
        )


class CompressedLayer(CacheLayerMixin):
    """Holds one layer's keys and values compressed, and attends over them.

    :meth:`update` hands the new keys back, marked with this layer; the attention function finds it there and asks it
    to :meth:`attend`.

    Args:
        plan: configuration and model.
        layer: index in the model.
    """

    is_sliding = False
    supports_early_init = False

    def __init__(self, plan: Plan, layer: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._plan, self._layer = plan, layer
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._contents: LayerContents | None = None
        self._seen = 0
        self.waiting = False
        """New tokens were announced and have not been attended to."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is allocated before there is something to hold."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Announce new tokens ``[batch, kv_heads, n, head_dim]``; they are held once they have been attended to."""
        self._check(key_states.shape[0], key_states.shape[2])
        self._seen += key_states.shape[2]
        self.waiting = True
        mark(key_states, self)
        return key_states, value_states

    def attend(self, call: AttentionCall) -> Tensor:
        """The prompt attends to itself and is compressed; later tokens attend to what is held and join it.

        Raises:
            ModelError: another model than the cache's asks.
        """
        plan = self._plan
        if call.module not in plan.modules[self._layer]:
            raise ModelError(
                "another model uses this cache", field=plan.facts.name, remedy="make a cache for each model"
            )
        call = as_stated(call, plan.facts)
        if self._contents is None:
            output = plain_attention(call)
            with torch.no_grad():
                self._contents = open_contents(plan, call, self._layer)
        else:
            attend = attend_one if call.query.shape[2] == 1 else attend_several
            with torch.no_grad():
                output = attend(self._contents, call)
            if torch.is_grad_enabled() and call.query.requires_grad:
                output = _WithoutGradient.apply(output, call.query, plan.facts.name)  # type: ignore[no-untyped-call]
        self.waiting = False
        return output

    def get_seq_length(self) -> int:
        """Tokens seen, evicted ones and padding included: the next token's place."""
        return self._seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The keys that :meth:`update` returns are the new ones, behind all that were seen."""
        return query_length, self._seen

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse.

        Raises:
            RequestError: always; what was evicted and what was averaged into scales does not come back.
        """
        raise RequestError(
            "a compressed cache cannot give tokens back",
            field="past_key_values",
            remedy="generate without an assistant",
        )

    def activate_past_recording(self) -> None:
        """Refuse, as :meth:`crop`: asked for before decoding with an assistant, which takes tokens back."""
        self.crop(0)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the batch entries ``beam_idx``."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every batch entry."""
        if self._contents is not None:
            self._contents.select(torch.arange(self._contents.batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the batch entries ``indices`` (any order, repeats allowed), in memory of their own."""
        if self._contents is not None:
            self._contents.select(indices)

    def held(self) -> list[Tensor]:
        """Every tensor that is held, once."""
        return [] if self._contents is None else self._contents.held()

    def kept_positions(self, batch: int, head: int) -> Tensor:
        """Positions of the tokens that one KV head holds, int64, ascending; padding has none."""
        if self._contents is None:
            return torch.empty(0, dtype=torch.int64)
        return self._contents.kept_positions(batch, head)

    def _check(self, batch: int, new: int) -> None:
        plan = self._plan
        attention = plan.model.config._attn_implementation
        if attention != ATTENTION:
            raise ModelError(
                f"attends with {attention!r}, which cannot read a compressed cache",
                field=plan.facts.name,
                remedy="make a new cache, which gives the model AutoKV's attention",
            )
        check_room(plan.facts, self._seen, new)
        if self._contents is not None and batch != self._contents.batch:
            raise RequestError(
                f"has a batch of {batch}, but the cache holds {self._contents.batch} sequences",
                field="input_ids",
                remedy="give a new batch a new cache",
            )
