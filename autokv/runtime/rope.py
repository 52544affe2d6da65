"""The model's own rotary embedding, as functions of positions."""

from __future__ import annotations

import inspect
import sys

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autokv.compression.context import Rope


def rope_of(model: PreTrainedModel, module: nn.Module) -> Rope | None:
    """Positions to (cos, sin) for one attention module; ``None`` where the layer rotates nothing."""
    rotary = next((child for name, child in model.named_modules() if name.endswith("rotary_emb")), None)
    if rotary is None or not getattr(module, "use_rope", True):
        return None
    options = {}
    if "layer_type" in inspect.signature(rotary.forward).parameters:
        options["layer_type"] = model.config.get_text_config().layer_types[module.layer_idx]

    def rope(positions: Tensor) -> tuple[Tensor, Tensor]:
        probe = torch.empty(0, dtype=torch.float32, device=positions.device)
        cos, sin = rotary(probe, positions[None], **options)
        return cos[0], sin[0]

    return rope


def unrotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Undo a rotary embedding.

    Args:
        states: ``[..., tokens, head_dim]`` after RoPE; only the first ``rotary_dim`` channels were rotated.
        cos: ``[tokens, rotary_dim]``, as ``sin``; a length scaling (YaRN) in them is undone too.
        sin: see ``cos``.
    """
    width = cos.shape[-1]
    rotated, rest = states[..., :width].float(), states[..., width:]
    first, second = rotated.chunk(2, dim=-1)
    turned = torch.cat((second, -first), dim=-1)
    plain = (rotated * cos + turned * sin) / (cos.square() + sin.square())
    return torch.cat((plain, rest.float()), dim=-1)


def rotation_is_known(module: nn.Module) -> bool:
    """Whether the model pairs channel j with j + D/2, as :func:`unrotate` does; Cohere and GLM interleave instead.

    Found by asking the model's own ``rotate_half``.
    """
    rotate_half = getattr(sys.modules[type(module).__module__], "rotate_half", None)
    return rotate_half is not None and rotate_half(torch.arange(4.0)).tolist() == [-2.0, -3.0, 0.0, 1.0]
