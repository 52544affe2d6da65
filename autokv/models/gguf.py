"""GGUF files, converted once into safetensors folders in the cache, since transformers takes long to dequantize one.

Weights become float32, which holds them exactly; what a file describes (``d·q + m`` with d and m in float16, say) has
more bits than a 16-bit dtype, and rounding the weights would move the predictions as a mild compression does.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from filelock import FileLock
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from autokv.errors import ModelError
from autokv.models.checkpoint import check_sizes, read_weights
from autokv.models.quiet import quiet, reading
from autokv.models.source import Source
from autokv.models.support import model_class

FORMAT = 1
"""Raised whenever what is written changes, so that older folders are not used."""
PROBES = (
    "Call me Ishmael. Some years ago, in 1859, I had 1,234 whales; it's what they'd say.",
    "def f(x):\n    return x**2  # 42\n\n\n\tEnd  of   it.",
    "Zürich, 日本, naïve café",
)
"""Texts that the converted tokenizer has to give back, and to split as the file's own does."""
_PART_OF_MANY = re.compile(r"-\d{5}-of-\d{5}$")
_log = logging.getLogger(__name__)


def converted(file: Path, cache: Path) -> Path | None:
    """The folder that ``file`` was converted to, or ``None``."""
    folder = _folder(file, cache)
    return folder if folder.is_dir() else None


def convert(source: Source, cache: Path) -> Path:
    """The safetensors folder of a GGUF file, written if it is not there yet.

    Safe with several processes: one converts while the others wait, and the folder gets its name only when it is
    complete. The name depends on the file's path, size and time and on transformers' version, because a tokenizer
    saved by one version may be read as another class by the next.

    Raises:
        ModelError: the file is corrupt or of an architecture that cannot be read, its tokenizer does not survive, or
            the cache cannot be written.
    """
    folder = _folder(source.path, cache)
    entry = folder.parent
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            if not folder.is_dir():
                _log.info("converting %s to safetensors, once", source.path.name)
                partial = entry.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                try:
                    _write(source, partial / folder.name)
                    partial.rename(entry)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot be converted into the cache: {error}",
            field=source.name,
            remedy="free some space or set AUTOKV_CACHE_DIR",
        ) from error
    return folder


def read_config(source: Source) -> PreTrainedConfig:
    """The configuration in a GGUF file's metadata.

    Raises:
        ModelError: the file is corrupt, or transformers does not know its architecture.
    """
    with _alone(source) as folder, reading(source.name, "the GGUF file"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, gguf_file=source.path.name)
    check_sizes(config.to_dict(), source.name)
    return config


def _folder(file: Path, cache: Path) -> Path:
    status = file.stat()
    facts = (str(file.resolve()), status.st_size, status.st_mtime_ns, transformers.__version__, FORMAT)
    return cache / "gguf" / hashlib.sha256(repr(facts).encode()).hexdigest()[:16] / file.stem


def _write(source: Source, folder: Path) -> None:
    config = read_config(source)
    model_class(config, source.name)
    with _alone(source) as alone, reading(source.name, "the GGUF file"):
        name = source.path.name
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=name, config=config)
        # Given the configuration, transformers parses the file once less.
        model = read_weights(
            alone, source.name, "the weights of the GGUF file", torch.float32, gguf_file=name, config=config
        )
    folder.mkdir(parents=True)
    needed = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if shutil.disk_usage(folder).free < needed:
        raise ModelError(
            f"needs {needed / 1e9:.1f} GB in the cache {folder.parents[1]}, more than is free",
            field=source.name,
            remedy="free some space or set AUTOKV_CACHE_DIR",
        )
    _save(model, tokenizer, folder, source.name)


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, name: str) -> None:
    # The weights are plain float32 by now; these marks of a quantized model would make transformers refuse to save it.
    vars(model).update(hf_quantizer=None, is_quantized=False)
    vars(model).pop("quantization_method", None)
    vars(model.config).pop("quantization_config", None)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    with reading(name, "the converted tokenizer"):
        again = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    for text in PROBES:
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = again(text, add_special_tokens=False)["input_ids"]
        if ids != expected or again.decode(ids, clean_up_tokenization_spaces=False) != text:
            raise ModelError(
                "its tokenizer does not survive the conversion from GGUF",
                field=name,
                remedy="give the model as a safetensors folder",
            )


@contextmanager
def _alone(source: Source) -> Iterator[Path]:
    """A folder with nothing but the file: transformers would take a configuration or tokenizer that lies beside it."""
    if _PART_OF_MANY.search(source.path.stem):
        raise ModelError("is one part of several", field=source.name, remedy="merge the parts into one GGUF file")
    with tempfile.TemporaryDirectory(prefix="autokv-") as folder:
        (Path(folder) / source.path.name).symlink_to(source.path)
        yield Path(folder)
