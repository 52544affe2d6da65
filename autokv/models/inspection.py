"""``inspect``: the facts of a model without its weights, and which weights they belong to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from autokv import settings
from autokv.errors import ModelError
from autokv.models.checkpoint import check_folder
from autokv.models.context import context_tokens, switch_tokens
from autokv.models.facts import ModelFacts
from autokv.models.gguf import converted, read_config
from autokv.models.quiet import reading
from autokv.models.source import Source, locate
from autokv.models.support import attribute, layer_kinds, model_class, refuse_sinks

SAMPLES = 64
SAMPLE_BYTES = 1 << 14
_COMMIT = re.compile(r"[0-9a-f]{40}")


def inspect(model: str) -> ModelFacts:
    """Facts of ``model``: a Hugging Face id, a local folder or a GGUF file. No weight is read, but for
    the samples that :attr:`ModelFacts.revision` is made of.

    Raises:
        ModelError: the model is unknown, unsafe, broken, or of a kind that cannot be compressed.
        RequestError: a setting makes no sense.
    """
    configured = settings.current()
    source = locate(model, configured, weights=False)
    if source.kind == "gguf":
        folder = converted(source.path, configured.cache_dir)
        config = read_config(source) if folder is None else folder_config(Source(source.name, "folder", folder))
    else:
        config = folder_config(source)
    facts = facts_of(config, source.name)
    with reading(source.name, "the weights"):
        return replace(facts, revision=revision_of(source))


def folder_config(source: Source, *, weights: bool = False) -> PreTrainedConfig:
    """The configuration of a safetensors folder, which :func:`check_folder` passes first.

    Raises:
        ModelError: the folder is unsafe, broken, or, if ``weights`` asks for them, without complete weights.
    """
    with reading(source.name, "the folder"):
        check_folder(source.path, source.name, weights=weights)
    with reading(source.name, "config.json"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            source.path, trust_remote_code=False, local_files_only=True
        )
    return config


def facts_of(config: PreTrainedConfig, name: str, model: PreTrainedModel | None = None) -> ModelFacts:
    """Facts from a configuration, and the parameters of ``model``; without a model, one is built on the meta device.

    Raises:
        ModelError: the configuration lacks a size, or the model cannot be compressed.
    """
    architecture = model_class(config, name)
    text = config.get_text_config(decoder=True)
    layers = _size(text, "num_hidden_layers", name)
    rope = _rope(text, name)
    longest = context_tokens(_size(text, "max_position_embeddings", name), rope)
    kinds = layer_kinds(text, layers, longest, name)
    heads = _size(text, "num_attention_heads", name)
    kv_heads = _size(text, "num_key_value_heads", name, heads)
    hidden = _size(text, "hidden_size", name)
    head_dim = _size(text, "head_dim", name, hidden // heads)
    if heads % kv_heads:
        raise ModelError(f"{heads} query heads cannot share {kv_heads} KV heads", field=name)
    if _size(text, "v_head_dim", name, head_dim) != head_dim:
        raise ModelError(f"{text.model_type} cannot be compressed: its keys and values differ in width", field=name)
    window = _size(text, "sliding_window", name) if "sliding" in kinds else None
    return ModelFacts(
        name=name,
        architecture=architecture.__name__,
        model_type=config.model_type,
        layers=layers,
        query_heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        layer_kinds=kinds,
        sliding_window=window,
        rope=rope,
        context_tokens=longest,
        parameters=_count_parameters(config, name, model),
        hidden_size=hidden,
        vocab_size=_size(text, "vocab_size", name),
        attention_softcap=attribute(text, "attn_logit_softcapping", name),
        switch_tokens=switch_tokens(longest, rope, _own_switch(text)),
    )


def _count_parameters(config: PreTrainedConfig, name: str, model: PreTrainedModel | None) -> int:
    if model is None:
        with reading(name, "the architecture"), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
            model.tie_weights()
    refuse_sinks(model, config.model_type, name)
    return sum(parameter.numel() for parameter in model.parameters())


def _size(text: PreTrainedConfig, key: str, name: str, default: int | None = None) -> int:
    value = attribute(text, key, name)
    if value is None:
        value = default
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"{key} of {text.model_type} is {value!r}, not a positive number", field=name)
    return value


def _own_switch(text: PreTrainedConfig) -> object:
    """The switch that generation heeds: configurations whose class has the field (Phi-3), not those that carry it."""
    key = "original_max_position_embeddings"
    return getattr(text, key) if hasattr(type(text), key) else None


def _rope(text: PreTrainedConfig, name: str) -> dict[str, Any]:
    """Rotary parameters of the kinds of layers that the model has, without what is ``None``."""
    rope = attribute(text, "rope_parameters", name) or {}
    return {key: dict(value) if isinstance(value, dict) else value for key, value in rope.items() if value is not None}


def revision_of(source: Source) -> str | None:
    """The hub's commit, or ``weights-`` and 16 hexadecimal digits of :func:`digest_of`; ``None`` without weights."""
    if source.kind == "hub" and _COMMIT.fullmatch(source.path.name):
        return source.path.name
    files = [source.path] if source.kind == "gguf" else sorted(source.path.glob("*.safetensors"))
    return f"weights-{digest_of(files)[:16]}" if files else None


def digest_of(files: Sequence[Path]) -> str:
    """SHA-256 over every file's name, size and 64 samples of 16 KiB, spread evenly from its start to its end.

    A file of up to 1 MiB is read whole. Of a larger one the samples take milliseconds where all of it takes minutes:
    other training or other quantization changes nearly every weight and is seen, an edit of a few weights may not be.
    """
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        last = size - SAMPLE_BYTES
        places: Iterable[int] = range(0, size, SAMPLE_BYTES)
        if size > SAMPLES * SAMPLE_BYTES:
            places = (last * sample // (SAMPLES - 1) for sample in range(SAMPLES))
        with file.open("rb") as opened:
            for place in places:
                opened.seek(place)
                digest.update(opened.read(SAMPLE_BYTES))
    return digest.hexdigest()
