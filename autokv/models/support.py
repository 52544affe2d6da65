"""Which models can be compressed, read from their configuration; unsupported models are rejected with the reason."""

from __future__ import annotations

from typing import Any, cast

from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)

from autokv.errors import ModelError
from autokv.models.facts import LayerKind

_KINDS: dict[str, LayerKind] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
}
_ATTENTION_OF_ITS_OWN = {
    "bert-generation": "an encoder turned decoder",
    "diffllama": "differential attention",
    "doge": "dynamic masks inside attention",
    "jetmoe": "keys and values that it repeats itself, for every expert",
    "hrm_text": "layers that run several times, each time with new keys and values",
    "mllama": "cross-attention layers",
}


def model_class(config: PreTrainedConfig, name: str) -> type[PreTrainedModel]:
    """The transformers class of a causal language model that keeps keys and values.

    Raises:
        ModelError: encoders, encoder-decoders, recurrent and other models that have no KV cache to compress.
    """
    kind = config.model_type
    if config.is_encoder_decoder:
        raise _refusal(kind, name, "an encoder-decoder, not a decoder alone")
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING:
        raise _refusal(kind, name, "an encoder, which keeps no KV cache")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise _refusal(kind, name, "not a causal language model in transformers")
    found = cast(type[PreTrainedModel], MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])
    text = config.get_text_config(decoder=True)
    for key in (kind, text.model_type):
        if key in _ATTENTION_OF_ITS_OWN:
            raise _refusal(kind, name, _ATTENTION_OF_ITS_OWN[key])
    if attribute(text, "kv_lora_rank", name):
        raise _refusal(kind, name, "multi-head latent attention (MLA), whose cache is compressed already")
    if getattr(found, "_is_stateful", False) and not _attention_only(text, name):
        raise _refusal(kind, name, "state-space or recurrent layers, which keep a state instead of keys and values")
    if not getattr(found, "_supports_attention_backend", False):
        raise _refusal(kind, name, "attention that transformers does not let others compute (such as ALiBi)")
    return found


def _attention_only(text: PreTrainedConfig, name: str) -> bool:
    """Whether a model that may have layers of other kinds has none (granite-4.0-micro)."""
    types = attribute(text, "layer_types", name)
    return bool(types) and all(_KINDS.get(each) == "full" for each in types)


def layer_kinds(text: PreTrainedConfig, layers: int, context_tokens: int, name: str) -> tuple[LayerKind, ...]:
    """The kind of every layer: from ``layer_types``, else from a window or a chunk that all layers share.

    A window as long as the context hides nothing: such layers have full attention (Phi-4-mini).

    Raises:
        ModelError: a layer is of another kind, layers share their keys and values, or no layer has full attention.
    """
    if attribute(text, "num_kv_shared_layers", name):
        raise _refusal(text.model_type, name, "layers that share their keys and values")
    types = attribute(text, "layer_types", name)
    if types is None:
        shared = "full_attention"
        if attribute(text, "attention_chunk_size", name):
            shared = "chunked_attention"
        if attribute(text, "sliding_window", name) and getattr(text, "use_sliding_window", True):
            shared = "sliding_attention"
        types = [shared] * layers
    other = sorted(set(types) - set(_KINDS))
    if other:
        raise _refusal(text.model_type, name, f"{' and '.join(other)} layers")
    if len(types) != layers:
        raise ModelError(f"names {len(types)} layer types for {layers} layers", field=name)
    kinds = tuple(_KINDS[each] for each in types)
    window = attribute(text, "sliding_window", name)
    if isinstance(window, int) and window >= context_tokens:
        return (_KINDS["full_attention"],) * layers
    if "full" not in kinds:
        raise ModelError(
            f"there is nothing to compress in {text.model_type}: every layer sees only a window of {window} tokens",
            field=name,
            remedy="choose a model with full-attention layers",
        )
    return kinds


def refuse_sinks(model: nn.Module, kind: str, name: str) -> None:
    """Refuse attention with a learned logit beside the tokens' (GPT-OSS, 2025), which no compressed attention adds.

    Raises:
        ModelError: a parameter of the model is such a sink.
    """
    if any(parameter.endswith(".sinks") for parameter, _ in model.named_parameters()):
        raise _refusal(kind, name, "learned attention sinks")


def attribute(config: PreTrainedConfig, key: str, name: str) -> Any:  # noqa: ANN401 - whatever the JSON had
    """An attribute of a configuration, or ``None``.

    Raises:
        ModelError: the layers differ in it; transformers refuses to name one value then.
    """
    try:
        return getattr(config, key, None)
    except Exception:
        raise _refusal(config.model_type, name, f"layers that differ in {key}") from None


def _refusal(kind: str, name: str, what: str) -> ModelError:
    article = "is" if what.startswith(("a ", "an ", "not ")) else "has"
    return ModelError(
        f"{kind} cannot be compressed: it {article} {what}",
        field=name,
        remedy="choose a decoder with multi-head, grouped-query or multi-query attention",
    )
