"""A model folder: what must hold of it before transformers may read it (no pickle, no code, nothing cut short)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel

from autokv.errors import ModelError
from autokv.models.quiet import reading

MAX_JSON_BYTES = 64 << 20
"""A JSON file of a model (the index of a sharded one is the longest) larger than this is refused unread."""
MAX_LAYERS = 1024
MAX_WIDTH = 1 << 24
"""Every other size in a configuration: hidden sizes, heads, experts, vocabulary."""
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_INDEX = "model.safetensors.index.json"


def check_folder(folder: Path, name: str, *, weights: bool) -> None:
    """Refuse a folder that is unsafe or broken; ``weights`` asks for complete safetensors as well.

    Raises:
        ModelError: names the file and what to do.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(
            "has no config.json", field=name, remedy="give the folder that transformers' save_pretrained wrote"
        )
    config = _json_object(folder / "config.json", name)
    check_sizes(config, name)
    _refuse_remote_code(config, "config.json", name)
    if (folder / "tokenizer_config.json").is_file():
        tokenizer = _json_object(folder / "tokenizer_config.json", name)
        _refuse_remote_code(tokenizer, "tokenizer_config.json", name)
    if (folder / "adapter_config.json").is_file():
        raise ModelError("is an adapter", field=name, remedy="merge it into its base model and save that")
    shards = sorted(folder.glob("*.safetensors"))
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES)
    if not shards and (weights or pickles):
        what = f"only pickle checkpoints ({pickles[0]}), which can run code" if pickles else "no safetensors weights"
        raise ModelError(f"has {what}", field=name, remedy="convert the weights to safetensors")
    if weights:
        _check_shards(folder, shards, name)


def read_weights(folder: Path, name: str, what: str, dtype: torch.dtype, **options: object) -> PreTrainedModel:
    """The model in ``folder`` in evaluation mode, without gradients.

    Args:
        folder: what transformers reads.
        name: the model, for messages.
        what: what is read, for messages.
        dtype: dtype of the weights.
        options: given to transformers.

    Raises:
        ModelError: the weights cannot be read, or some are missing, which transformers would fill with random numbers.
    """
    with reading(name, what):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, local_files_only=True, output_loading_info=True, **options
        )
    model, info = loaded
    if info["missing_keys"]:
        raise ModelError(f"{what} lack {min(info['missing_keys'])}", field=name, remedy="download the model again")
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


def _json_object(file: Path, name: str) -> dict[str, Any]:
    if file.stat().st_size > MAX_JSON_BYTES:
        raise ModelError(f"{file.name} is larger than {MAX_JSON_BYTES} bytes", field=name)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ModelError(f"{file.name} is not JSON", field=name, remedy="download the model again") from None
    if not isinstance(document, dict):
        raise ModelError(f"{file.name} is not a JSON object", field=name, remedy="download the model again")
    return document


def _sizes(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Every integer of a configuration and of its sub-configurations, with its key."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _sizes(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield key, value


def check_sizes(config: dict[str, Any], name: str) -> None:
    """Refuse what would take all memory before a single weight is read.

    Raises:
        ModelError: names the size.
    """
    for key, value in _sizes(config):
        layers = key.endswith(("layers", "n_layer"))
        limit = MAX_LAYERS if layers else MAX_WIDTH
        sized = layers or key.endswith(("_size", "_heads", "_dim", "_experts", "n_embd", "n_head", "n_inner"))
        if sized and value > limit:
            raise ModelError(f"{key} is {value}, more than {limit}", field=name)


def _refuse_remote_code(document: dict[str, Any], file: str, name: str) -> None:
    """Refuse ``auto_map``, unless transformers itself has every class that it names.

    Models that entered transformers later keep an ``auto_map`` from before; their own code is never run.
    """
    mapped = document.get("auto_map", {})
    entries = mapped.values() if isinstance(mapped, dict) else [mapped]
    for entry in entries:
        for reference in entry if isinstance(entry, (list, tuple)) else [entry]:
            if reference is not None and not hasattr(transformers, str(reference).rpartition(".")[2]):
                raise ModelError(
                    f"needs code of its own ({reference} in {file}), which is never run",
                    field=name,
                    remedy="use a model that transformers implements",
                )


def _check_shards(folder: Path, shards: list[Path], name: str) -> None:
    if (folder / _INDEX).is_file():
        weight_map = _json_object(folder / _INDEX, name).get("weight_map")
        named = set(weight_map.values()) if isinstance(weight_map, dict) else set()
        missing = sorted(str(shard) for shard in named if shard not in {file.name for file in shards})
        if missing or not named:
            raise ModelError(
                f"lacks {missing[0]}" if missing else f"{_INDEX} names no weights",
                field=name,
                remedy="download the model again",
            )
    for shard in shards:
        try:
            with safe_open(shard, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{shard.name} is truncated or corrupt ({error})", field=name, remedy="download the model again"
            ) from None
