"""``load_tokenizer``: a model's tokenizer without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from autokv import settings
from autokv.models.checkpoint import check_folder
from autokv.models.gguf import convert
from autokv.models.quiet import reading
from autokv.models.source import locate


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of ``model``: a Hugging Face id, a local folder or a GGUF file, which is converted the first time.

    Raises:
        ModelError: the model is unknown, unsafe or broken, or has no tokenizer.
        RequestError: a setting makes no sense.
    """
    configured = settings.current()
    source = locate(model, configured, weights=False)
    path = source.path
    if source.kind == "gguf":
        path = convert(source, configured.cache_dir)
    with reading(source.name, "the folder"):
        check_folder(path, source.name, weights=False)
    with reading(source.name, "the tokenizer"):
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)


class LazyTokenizer:
    """A model's tokenizer, loaded only where a text is counted; its call raises what :func:`load_tokenizer` raises."""

    def __init__(self, model: str) -> None:
        self.model = model

    @cached_property
    def _loaded(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.model)

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Mapping[str, Any]:
        """As the tokenizer itself."""
        encoded: Mapping[str, Any] = self._loaded(text, add_special_tokens=add_special_tokens)
        return encoded
