"""Tiny models as transformers loads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import torch
from transformers import AutoModelForCausalLM

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel


@pytest.fixture
def tiny(tiny_model_folder: Callable[..., Path]) -> Callable[..., GenerativeModel]:
    """``tiny(family, dtype, **config)``: a model of its own, which a test may change."""

    def load(family: str = "llama", dtype: torch.dtype = torch.float32, **changes: object) -> GenerativeModel:
        model = AutoModelForCausalLM.from_pretrained(tiny_model_folder(family, **changes), dtype=dtype).eval()
        return cast("GenerativeModel", model)

    return load


@pytest.fixture
def ids() -> Callable[..., torch.Tensor]:
    """``ids(batch, tokens, seed)``: random tokens, none of them special."""

    def make(batch: int = 1, tokens: int = 50, seed: int = 0) -> torch.Tensor:
        return torch.randint(0, 256, (batch, tokens), generator=torch.Generator().manual_seed(seed))

    return make
