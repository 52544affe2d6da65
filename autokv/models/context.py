"""The longest context that a model was made for, from what its configuration says of rotary positions.

``max_position_embeddings`` includes the extension for some kinds of RoPE and not for others, see
:func:`context_tokens`. Loads without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FULL_ATTENTION = "full_attention"


def context_tokens(max_positions: int, rope: Mapping[str, Any]) -> int:
    """Tokens of the longest context.

    YaRN (Peng et al., 2023) extends ``original_max_position_embeddings`` by its factor: published recipes add it to a
    configuration and leave ``max_position_embeddings`` as it was (Qwen2.5 and Qwen3), or state the extended length
    there (DeepSeek-V3, gpt-oss), so the larger one holds. Dynamic NTK scaling takes ``max_position_embeddings`` for
    the length before the extension. Llama 3.1 and LongRoPE (Phi-3) state the extended length; with linear scaling
    some do (Gemma 3, DeepSeek-Coder), so it is taken as it stands.

    Args:
        max_positions: ``max_position_embeddings``.
        rope: ``rope_parameters``, or ``rope_scaling`` as older files call it; may be nested by kind of layer, of which
            those with full attention count.
    """
    own = rope.get(FULL_ATTENTION, rope)
    if not isinstance(own, Mapping):
        return max_positions
    kind, factor = own.get("rope_type", own.get("type")), own.get("factor")
    if not isinstance(factor, int | float) or not factor > 1:
        return max_positions
    if kind == "dynamic":
        return int(max_positions * factor)
    if kind == "yarn":
        original = own.get("original_max_position_embeddings")
        return max(max_positions, int((original if isinstance(original, int) else max_positions) * factor))
    return max_positions
