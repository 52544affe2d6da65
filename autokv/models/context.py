"""How far a model's context goes, from what its configuration says of rotary positions.

``max_position_embeddings`` includes the extension for some kinds of RoPE and not for others, see
:func:`context_tokens`. Loads without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autokv.errors import ModelError
from autokv.models.facts import ModelFacts

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


def switch_tokens(longest: int, rope: Mapping[str, Any], stated: object) -> int | None:
    """:attr:`ModelFacts.switch_tokens`.

    Args:
        longest: tokens of the longest context.
        rope: as in :func:`context_tokens`.
        stated: ``original_max_position_embeddings`` of the configuration, where its class has that (Phi-3): generation
            in transformers then begins anew behind it, whatever the kind of RoPE.
    """
    own = rope.get(FULL_ATTENTION, rope)
    found = stated
    if isinstance(own, Mapping) and own.get("rope_type", own.get("type")) == "longrope":
        found = own.get("original_max_position_embeddings", stated)
    return found if isinstance(found, int) and found < longest else None


def crosses(facts: ModelFacts, first: int, tokens: int) -> bool:
    """Whether a sequence of ``first`` tokens cannot grow to ``tokens``, see :attr:`ModelFacts.switch_tokens`."""
    return facts.switch_tokens is not None and first <= facts.switch_tokens < tokens


def check_room(facts: ModelFacts, seen: int, new: int, what: str = "tokens") -> None:
    """Whether a cache that has ``seen`` tokens can take ``new`` ones.

    Raises:
        ModelError: the context is full, or the sequence would cross the switch of LongRoPE.
    """
    tokens = seen + new
    if tokens > facts.context_tokens:
        raise ModelError(
            f"{tokens} {what} are more than the {facts.context_tokens} that it was made for",
            field=facts.name,
            remedy="lower max_new_tokens or shorten the prompt",
        )
    if crosses(facts, seen or new, tokens):
        raise crossing(facts)


def crossing(facts: ModelFacts) -> ModelError:
    """That a cache would have to cross :attr:`ModelFacts.switch_tokens`."""
    limit = f"{facts.switch_tokens:,}"
    return ModelError(
        f"a cache cannot grow past {limit} tokens, where {facts.model_type} rotates all positions anew (LongRoPE)",
        field=facts.name,
        remedy=f"keep prompt and output together within {limit} tokens, or begin with a longer prompt",
    )
