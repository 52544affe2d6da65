"""Reading weights through transformers, all of them or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from autokv.errors import ModelError
from autokv.models.quiet import reading


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
