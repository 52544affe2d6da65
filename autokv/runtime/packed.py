"""A continuous batch: requests at different places of their texts in one forward pass, each over its own contents.

The tokens of an iteration are packed into one sequence ``[1, tokens]``: one for every request that decodes, then chunks
of prompts (Orca, 2022; Sarathi-Serve, 2024). Everything but attention treats them alike; attention is divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from autokv.errors import ModelError, RequestError
from autokv.kernels import held_tensors
from autokv.models import ModelFacts
from autokv.models.context import check_room
from autokv.runtime.attention import (
    AttentionCall,
    AttentionMode,
    attending,
    causal_mask,
    masked_attention,
    prefill_attention,
)
from autokv.runtime.contents import LayerContents
from autokv.runtime.continuing import attend_one
from autokv.runtime.layer import open_contents
from autokv.runtime.plan import Plan


class PromptChunk(NamedTuple):
    """Consecutive tokens of one request's prompt, behind those of its earlier chunks."""

    request: int
    ids: Tensor
    """int64 ``[tokens]``, at least one."""
    last: bool
    """The prompt ends here: it is compressed, and the request's next token comes out."""


@dataclass(frozen=True)
class _Staged:
    """A prompt's tokens of one layer, as the model computed them, before the prompt is complete."""

    keys: Tensor
    """``[1, kv_heads, tokens, head_dim]``, as the values."""
    values: Tensor
    queries: Tensor
    """``[1, query_heads, n, head_dim]``: the newest that the eviction asks for."""


@dataclass
class _Sequence:
    """One request."""

    seen: int = 0
    contents: dict[int, LayerContents] = field(default_factory=dict)
    """By layer, once the prompt is complete."""
    staged: dict[int, _Staged] = field(default_factory=dict)
    """By layer, until then."""


class PackedBatch:
    """Requests that come, decode together and go, each under the same configuration.

    A request gives the tokens that it gives alone through :class:`~autokv.CompressedCache`: its prompt attends in full
    precision, each layer is compressed as soon as the prompt's last chunk has attended, and what is generated joins it
    in blocks.

    Raises:
        ModelError: the model has layers with a sliding window.
    """

    def __init__(self, plan: Plan) -> None:
        if len(plan.facts.full_layers) != plan.facts.layers:
            raise ModelError(
                "has layers with a sliding window, which cannot be batched continuously",
                field=plan.facts.name,
                remedy="choose a model whose layers all have full attention",
            )
        self._plan = plan
        self._sequences: dict[int, _Sequence] = {}

    @torch.inference_mode()
    def step(self, decoding: Sequence[tuple[int, int]], chunks: Sequence[PromptChunk] = ()) -> dict[int, int]:
        """One iteration.

        Args:
            decoding: requests whose prompts are complete, each with its newest token, which is fed back.
            chunks: parts of prompts; the first of a request opens it.

        Returns:
            The likeliest next token of every decoding request and of every prompt that was completed.

        Raises:
            ModelError: a request outgrows the model's context.
            RequestError: there is nothing to do, a request decodes before its prompt is complete or gets more of a
                prompt after it, or one occurs twice.
        """
        self._check(decoding, chunks)
        sequences = [self._sequences[request] for request, _ in decoding]
        ids = [torch.tensor([token for _, token in decoding], dtype=torch.int64)]
        positions = [torch.tensor([sequence.seen for sequence in sequences], dtype=torch.int64)]
        wanted = [request for request, _ in decoding]
        keep, end, parts = list(range(len(decoding))), len(decoding), []
        for request, tokens, last in chunks:
            sequence = self._sequences.setdefault(request, _Sequence())
            parts.append(_Part(sequence, slice(end, end + len(tokens)), last))
            end += len(tokens)
            ids.append(tokens.to("cpu"))
            positions.append(torch.arange(sequence.seen, sequence.seen + len(tokens)))
            if last:
                wanted.append(request)
                keep.append(end - 1)
        logits = packed_logits(
            self._plan.model,
            self._plan.facts,
            _Division(self._plan, sequences, parts),
            torch.cat(ids),
            torch.cat(positions),
            keep,
        )
        for sequence in sequences:
            sequence.seen += 1
        for part in parts:
            part.sequence.seen += part.places.stop - part.places.start
        return dict(zip(wanted, logits.argmax(dim=-1).tolist(), strict=True))

    def drop(self, request: int) -> None:
        """Forget a request and what it holds, if there is one."""
        self._sequences.pop(request, None)

    def nbytes(self, request: int) -> int:
        """Bytes of every tensor that a request holds; 0 for one that is not there."""
        sequence = self._sequences.get(request)
        if sequence is None:
            return 0
        held = [tensor for contents in sequence.contents.values() for tensor in contents.held()]
        held += [tensor for staged in sequence.staged.values() for tensor in held_tensors(staged)]
        return sum(tensor.nbytes for tensor in held)

    def _check(self, decoding: Sequence[tuple[int, int]], chunks: Sequence[PromptChunk]) -> None:
        requests = [request for request, _ in decoding] + [chunk.request for chunk in chunks]
        if not requests:
            raise RequestError("has neither a decoding request nor a chunk of a prompt", field="step")
        if len(set(requests)) < len(requests):
            raise RequestError("names a request twice", field="step")
        unready = [request for request, _ in decoding if not self._complete(request)]
        if unready:
            raise RequestError(f"request {unready[0]} decodes before its prompt is complete", field="decoding")
        for chunk in chunks:
            if self._complete(chunk.request) or not len(chunk.ids):
                what = "has no tokens" if not len(chunk.ids) else "comes after its end"
                raise RequestError(f"a chunk of the prompt of request {chunk.request} {what}", field="chunks")
        facts, beyond = self._plan.facts, set()
        grown = [(request, 1) for request, _ in decoding] + [(chunk.request, len(chunk.ids)) for chunk in chunks]
        for request, new in grown:
            seen = self._sequences[request].seen if request in self._sequences else 0
            check_room(facts, seen, new, f"tokens of request {request}")
            beyond.add(facts.switch_tokens is not None and seen + new > facts.switch_tokens)
        if len(beyond) > 1:
            raise ModelError(
                f"rotates positions otherwise for requests of more than {facts.switch_tokens:,} tokens (LongRoPE), and "
                "this batch has shorter ones too",
                field=facts.name,
                remedy=f"serve requests within {facts.switch_tokens:,} tokens and longer ones apart",
            )

    def _complete(self, request: int) -> bool:
        sequence = self._sequences.get(request)
        return sequence is not None and bool(sequence.contents)


def packed_logits(
    model: PreTrainedModel, facts: ModelFacts, mode: AttentionMode, ids: Tensor, positions: Tensor, keep: Sequence[int]
) -> Tensor:
    """One forward pass over packed tokens, whose attention is ``mode``'s alone: no mask is made.

    Args:
        model: with AutoKV's attention.
        facts: the model's.
        mode: see :mod:`autokv.runtime.attention`.
        ids: int64 ``[tokens]``.
        positions: int64 ``[tokens]``, each token's in its own text.
        keep: places in ``ids`` whose logits are wanted.

    Returns:
        ``[len(keep), vocabulary]``.

    Raises:
        ModelError: the model attends otherwise than ``facts`` say.
    """
    device = model.device
    with attending(mode, facts):
        logits: Tensor = model(
            ids[None].to(device),
            position_ids=positions[None].to(device),
            # transformers hands a mask of four dimensions on as it is.
            attention_mask=torch.empty(1, 1, 1, 1, device=device),
            logits_to_keep=torch.tensor(keep, dtype=torch.int64, device=device),
            use_cache=False,
        ).logits
    return logits[0]


class _Part(NamedTuple):
    """A chunk's place among the packed tokens."""

    sequence: _Sequence
    places: slice
    last: bool


class _Division:
    """The mode of one iteration: every request's tokens attend to its own."""

    def __init__(self, plan: Plan, decoding: Sequence[_Sequence], parts: Sequence[_Part]) -> None:
        self._plan, self._decoding, self._parts = plan, decoding, parts

    def attend(self, call: AttentionCall) -> Tensor:
        # Tokens before heads, as the model goes on with it.
        output = torch.empty_like(call.query.transpose(1, 2), memory_format=torch.contiguous_format)
        call = replace(call, mask=None, options={})
        for place, sequence in enumerate(self._decoding):
            one = _of(call, slice(place, place + 1))
            output[:, place] = attend_one(sequence.contents[call.layer], one)[:, :, 0]
        for part in self._parts:
            output[:, part.places] = self._prefill(part, _of(call, part.places)).transpose(1, 2)
        return output.transpose(1, 2)

    def _prefill(self, part: _Part, call: AttentionCall) -> Tensor:
        """A chunk over its prompt so far: ``[1, query_heads, new, head_dim]``."""
        earlier = part.sequence.staged.pop(call.layer, None)
        if earlier is None:
            # Memory of their own: a view would keep the whole iteration's tokens.
            keys, values = (now.clone(memory_format=torch.contiguous_format) for now in (call.key, call.value))
        else:
            keys = torch.cat([earlier.keys, call.key], dim=2)
            values = torch.cat([earlier.values, call.value], dim=2)
        prompt = replace(call, key=keys, value=values)
        output = prefill_attention(prompt) if earlier is None else _continue_prompt(prompt)
        queries = call.query if earlier is None else torch.cat([earlier.queries, call.query], dim=2)
        if part.last:
            contents = open_contents(self._plan, replace(prompt, query=queries), call.layer)
            part.sequence.contents[call.layer] = contents
        else:
            part.sequence.staged[call.layer] = _Staged(keys, values, self._needed(queries))
        return output

    def _needed(self, queries: Tensor) -> Tensor:
        needs = self._plan.needs
        if needs.attention_received or needs.query_moments:
            return queries.clone()
        return queries[:, :, max(0, queries.shape[2] - needs.observation_window) :].clone()


def _of(call: AttentionCall, places: slice) -> AttentionCall:
    return replace(call, query=call.query[:, :, places], key=call.key[:, :, places], value=call.value[:, :, places])


def _continue_prompt(call: AttentionCall) -> Tensor:
    """The newest tokens' causal attention over all of ``call``: ``[1, query_heads, new, head_dim]``."""
    new, tokens = call.query.shape[2], call.key.shape[2]
    places = torch.arange(tokens, device=call.query.device)
    mask = causal_mask(places[tokens - new :], places, None)
    if call.softcap is not None:
        return masked_attention(call, call.query, call.key, call.value, mask)
    return F.scaled_dot_product_attention(call.query, call.key, call.value, mask, scale=call.scaling, enable_gqa=True)
