"""``load_tokenizer``: a model's tokenizer without its weights."""

from __future__ import annotations

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
