"""``load``: a model and its tokenizer, ready to be evaluated; or the tokenizer alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from autokv import settings
from autokv.models.checkpoint import check_folder, read_weights
from autokv.models.facts import ModelFacts
from autokv.models.gguf import convert
from autokv.models.inspection import facts_of, folder_config, revision_of
from autokv.models.placement import choose_device, choose_dtype
from autokv.models.quiet import reading
from autokv.models.source import Source, locate


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, without gradients, with transformers' default attention."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    facts: ModelFacts
    name: str
    device: torch.device
    dtype: torch.dtype
    checkpoint_dtype: torch.dtype | None = None
    """That the checkpoint says, which a CPU does not run in."""


def load(model: str, dtype: str = "auto", device: str = "auto") -> LoadedModel:
    """Load ``model``: a Hugging Face id, a local folder or a GGUF file, from safetensors or GGUF only.

    Args:
        model: what to load; a GGUF file is converted into the cache the first time.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: float32 on a CPU, else 16 bits.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: CUDA where there is one.

    Raises:
        ModelError: the model is unknown, unsafe, broken, or of a kind that cannot be compressed.
        RequestError: no such device or dtype, or a setting makes no sense.
    """
    place = choose_device(device)
    choose_dtype(dtype, place, None)
    found, source = _located(model, weights=True)
    config = folder_config(source, weights=True)
    facts = facts_of(config, source.name)
    with reading(source.name, "the weights"):
        facts = replace(facts, revision=revision_of(found))
    own = getattr(torch, str(config.dtype).removeprefix("torch."), None)
    chosen = choose_dtype(dtype, place, own)
    tokenizer = _tokenizer(source)
    weights = read_weights(source.path, source.name, "the weights", chosen, use_safetensors=True)
    with reading(source.name, f"on {place}, the model"):
        weights.to(place)  # type: ignore[arg-type]
    return LoadedModel(weights, tokenizer, facts, source.name, place, chosen, own)


class LazyTokenizer:
    """The tokenizer of a Hugging Face id, a local folder or a GGUF file, loaded only where a text is counted."""

    def __init__(self, model: str) -> None:
        self.model = model

    @cached_property
    def _loaded(self) -> PreTrainedTokenizerBase:
        _, source = _located(self.model, weights=False)
        with reading(source.name, "the folder"):
            check_folder(source.path, source.name, weights=False)
        return _tokenizer(source)

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Mapping[str, Any]:
        """As the tokenizer itself.

        Raises:
            ModelError: the model is unknown, unsafe or broken, or has no tokenizer.
            RequestError: a setting makes no sense.
        """
        encoded: Mapping[str, Any] = self._loaded(text, add_special_tokens=add_special_tokens)
        return encoded


def _located(model: str, *, weights: bool) -> tuple[Source, Source]:
    """The model as it was found and as a safetensors folder; a GGUF file is converted the first time."""
    configured = settings.current()
    found = locate(model, configured, weights=weights)
    if found.kind != "gguf":
        return found, found
    return found, Source(found.name, "folder", convert(found, configured.cache_dir))


def _tokenizer(source: Source) -> PreTrainedTokenizerBase:
    with reading(source.name, "the tokenizer"):
        return AutoTokenizer.from_pretrained(source.path, trust_remote_code=False, local_files_only=True)
