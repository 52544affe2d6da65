"""``load``: a model and its tokenizer, ready to be evaluated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from autokv import settings
from autokv.models.checkpoint import check_folder
from autokv.models.facts import ModelFacts
from autokv.models.gguf import convert
from autokv.models.inspection import facts_of, folder_config
from autokv.models.placement import choose_device, choose_dtype
from autokv.models.quiet import reading
from autokv.models.revision import revision_of
from autokv.models.source import Source, locate
from autokv.models.weights import read_weights


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
    configured = settings.current()
    place = choose_device(device)
    choose_dtype(dtype, place, None)
    source = found = locate(model, configured, weights=True)
    if source.kind == "gguf":
        source = Source(source.name, "folder", convert(source, configured.cache_dir))
    with reading(source.name, "the folder"):
        check_folder(source.path, source.name, weights=True)
    config = folder_config(source)
    facts = facts_of(config, source.name)
    with reading(source.name, "the weights"):
        facts = replace(facts, revision=revision_of(found))
    own = getattr(torch, str(config.dtype).removeprefix("torch."), None)
    chosen = choose_dtype(dtype, place, own)
    with reading(source.name, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source.path, trust_remote_code=False, local_files_only=True)
    weights = read_weights(source.path, source.name, "the weights", chosen, use_safetensors=True)
    with reading(source.name, f"on {place}, the model"):
        weights.to(place)  # type: ignore[arg-type]
    return LoadedModel(weights, tokenizer, facts, source.name, place, chosen, own)
