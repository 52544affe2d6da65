"""Tiny models as transformers loads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel


@pytest.fixture
def tiny(tiny_model_folder: Callable[..., Path]) -> Callable[..., PreTrainedModel]:
    """``tiny(family, dtype, **config)``: a model of its own, which a test may change."""

    def load(family: str = "llama", dtype: torch.dtype = torch.float32, **changes: object) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(tiny_model_folder(family, **changes), dtype=dtype).eval()

    return load


@pytest.fixture
def ids() -> Callable[..., torch.Tensor]:
    """``ids(batch, tokens, seed)``: random tokens, none of them special."""

    def make(batch: int = 1, tokens: int = 50, seed: int = 0) -> torch.Tensor:
        return torch.randint(0, 256, (batch, tokens), generator=torch.Generator().manual_seed(seed))

    return make
