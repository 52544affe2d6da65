"""Bytes: of a request's cache, of a model's weights, of an iteration's activations."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from autokv.config import EvictionStage
from autokv.evaluation.costs.layers import Layers
from autokv.models import ModelFacts
from autokv.runtime.contents import LayerContents
from autokv.runtime.layer import open_contents
from autokv.runtime.plan import Plan
from autokv.serving.kv_memory import SequenceBytes

LONGEST = 2048
"""Tokens of the longest prompt whose bytes are counted, unless a window holds many of them; they grow on beyond it."""
SHORTEST = 64
"""Tokens of the shortest request that counts where a budget in tokens bends the line."""


def bytes_of_sequences(layers: Layers, plan: Plan, longest: int) -> SequenceBytes:
    """What a request holds, its windows as they are allocated: a line through prompts that are really compressed.

    A prompt of several chunks is held in 16 bits until its last one, unless nothing is compressed anyway.
    """
    facts, stage = plan.facts, plan.eviction
    most = longest if stage is None or stage.keep_tokens is None else stage.keep_tokens
    last = max(4, min(most, longest, max(LONGEST, 4 * plan.capacity)))
    sizes = sorted({max(1, last // 4), last // 2, max(1, 3 * last // 4), last})
    held = [_held(layers, plan, size) for size in sizes]
    per_token, per_sequence = np.polyfit(sizes, held, 1) if len(sizes) > 1 else (held[0] / sizes[0], 0.0)
    if most < longest:
        per_token, per_sequence = _bent(float(per_token), float(per_sequence), most, longest)
    return SequenceBytes(
        per_token=float(per_token),
        per_sequence=max(0.0, float(per_sequence)) + facts.windowed_kv_bytes,
        staged_per_token=0.0 if plan.config.pipeline.is_identity else float(facts.kv_bytes_per_token),
    )


def _bent(per_token: float, per_sequence: float, most: int, longest: int) -> tuple[float, float]:
    """The line nearest to one that is level from ``most`` tokens on, over lengths up to ``longest``, short ones more
    often than long ones."""
    lengths = np.geomspace(min(SHORTEST, longest / 2), longest, 65)
    slope, offset = np.polyfit(lengths, per_token * np.minimum(lengths, most) + per_sequence, 1)
    return float(slope), float(offset)


@torch.inference_mode()
def _held(layers: Layers, plan: Plan, tokens: int) -> float:
    """Bytes of all full-attention layers; budgets of layers lie on a line, so that its ends tell the sum."""
    stage = plan.eviction
    uniform = not isinstance(stage, EvictionStage) or stage.layer_budget == "uniform"
    ends = layers.full[:1] if uniform else [layers.full[0], layers.full[-1]]
    counted = [_opened(open_contents(plan, layers.prompt(call, tokens), call.layer)) for call in ends]
    return len(layers.full) * sum(counted) / len(counted)


def _opened(contents: LayerContents) -> int:
    contents.room()
    return sum(tensor.nbytes for tensor in contents.held())


def weights_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers; what is tied counts once."""
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def activation_bytes(facts: ModelFacts, tokens: int, dtype: torch.dtype, *, rows: int = 1) -> int:
    """An estimate of what an iteration over ``tokens`` needs at once besides weights and caches.

    Of one layer: residual stream and its norm, two hidden vectors; then queries, keys, values and attention's output,
    or an MLP's two intermediate vectors and their product, whichever is larger. The MLP's width is what a layer's
    parameters leave for three matrices. On top, float32 logits of ``rows`` tokens and their copy in ``dtype``.
    """
    hidden, width = facts.hidden_size, facts.head_dim
    attention = (2 * facts.query_heads + 2 * facts.kv_heads) * width
    layer = (facts.parameters - facts.vocab_size * hidden) / facts.layers
    intermediate = max(hidden, (layer - attention * hidden) / (3 * hidden))
    per_token = (2 * hidden + max(attention, 3 * intermediate)) * dtype.itemsize
    return int(tokens * per_token + rows * facts.vocab_size * (4 + dtype.itemsize))
