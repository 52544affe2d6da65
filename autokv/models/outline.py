"""``ModelOutline``: what a server of a model costs depends on, without a weight of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from autokv import settings
from autokv.errors import ModelError
from autokv.models.facts import ModelFacts
from autokv.models.inspection import facts_of, folder_config
from autokv.models.loading import LoadedModel
from autokv.models.quiet import reading
from autokv.models.source import locate
from autokv.models.support import model_class

FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Matrices that engines multiply by at once."""
TINY = {"hidden_size": 64, "intermediate_size": 64, "vocab_size": 64, "pad_token_id": None}
"""Sizes of a miniature; none of them changes what a cache holds."""
_ALIKE = ("layers", "query_heads", "kv_heads", "head_dim", "layer_kinds", "sliding_window")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
MATRICES = 0.95
"""Share of the parameters that the matrices must have to say what a pass costs."""

Shapes = Mapping[tuple[int, int, bool], int]
"""(Outputs, inputs, whether it is the head) to the number of such matrices."""


@dataclass(frozen=True)
class ModelOutline:
    """A model as a cost model knows it."""

    facts: ModelFacts
    name: str
    dtype: torch.dtype
    """The checkpoint's own, or bfloat16 where that has not 16 bits."""
    matrices: Shapes
    """Empty where they do not say what a pass costs: a mixture of experts, or a model of other operations."""
    loaded: LoadedModel | None = None
    config: PreTrainedConfig | None = None

    @cached_property
    def caching(self) -> LoadedModel:
        """A model whose cache is this one's: itself, or a miniature with random weights.

        Raises:
            ModelError: no miniature can be made of it.
        """
        if self.loaded is not None:
            return self.loaded
        model = _miniature(self.config or PreTrainedConfig(), self)
        return LoadedModel(model, None, self.facts, self.name, torch.device("cpu"), model.dtype)  # type: ignore[arg-type]


def outline(model: str) -> ModelOutline:
    """Outline a Hugging Face id or a local folder; only its configuration is read.

    Raises:
        ModelError: the model is unknown, unsafe, broken, or of a kind that cannot be compressed or outlined.
        RequestError: a setting makes no sense.
    """
    source = locate(model, settings.current(), weights=False)
    if source.kind == "gguf":
        raise ModelError("a GGUF file is outlined once it is loaded", field=source.name)
    config = folder_config(source)
    facts = facts_of(config, source.name)
    dtype = getattr(torch, str(config.dtype).removeprefix("torch."), None)
    with torch.device("meta"):
        made: PreTrainedModel = model_class(config, source.name)(config)
        made.tie_weights()
    return ModelOutline(facts, source.name, _16_bits(dtype), _matrices(made, facts), config=config)


def outline_of(model: LoadedModel) -> ModelOutline:
    """Outline a model that is loaded."""
    return ModelOutline(
        model.facts, model.name, _16_bits(model.checkpoint_dtype), _matrices(model.model, model.facts), loaded=model
    )


def _16_bits(dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype in (torch.float16, torch.bfloat16) else torch.bfloat16


def _matrices(model: PreTrainedModel, facts: ModelFacts) -> Shapes:
    config = model.config.get_text_config(decoder=True)
    if any((getattr(config, name, None) or 0) > 1 for name in _EXPERTS):
        return {}
    head: nn.Linear | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    found: Counter[tuple[int, int, bool]] = Counter()
    for module in model.modules():
        linear = {name: child for name, child in module.named_children() if isinstance(child, nn.Linear)}
        for names in FUSED:
            if all(name in linear for name in names):
                together = [linear.pop(name) for name in names]
                found[sum(one.out_features for one in together), together[0].in_features, False] += 1
        for child in linear.values():
            found[child.out_features, child.in_features, child is head] += 1
    counted = sum(outputs * inputs * count for (outputs, inputs, is_head), count in found.items() if not is_head)
    embedding = facts.vocab_size * facts.hidden_size
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    others = facts.parameters - embedding * (1 if tied or head is None else 2)
    return dict(found) if counted >= MATRICES * others else {}


def _miniature(config: PreTrainedConfig, outline: ModelOutline) -> PreTrainedModel:
    config = deepcopy(config)
    text = config.get_text_config(decoder=True)
    text.head_dim = outline.facts.head_dim
    for name, value in TINY.items():
        if hasattr(text, name):
            setattr(text, name, value)
    with reading(outline.name, "a miniature of the model"):
        model: PreTrainedModel = model_class(config, outline.name)(config)
        facts = facts_of(config, outline.name)
    if any(getattr(facts, name) != getattr(outline.facts, name) for name in _ALIKE):
        raise ModelError("its cache cannot be outlined without its weights", field=outline.name)
    return cast(PreTrainedModel, model.eval().requires_grad_(False))  # type: ignore[no-untyped-call]
