"""``compress``: a model whose ``generate()`` compresses, for as long as a ``with`` block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from autokv.config import CompressionConfig
from autokv.runtime.cache import CompressedCache
from autokv.runtime.plan import make_plan


class Compression:
    """What :func:`compress` gives."""

    def __init__(self) -> None:
        self.cache: CompressedCache | None = None
        """The cache of the newest ``generate()`` that was given none of its own."""


@contextmanager
def compress(model: PreTrainedModel, config: CompressionConfig | str | Path) -> Iterator[Compression]:
    """Within the block, ``model.generate()`` uses a new :class:`CompressedCache`, unless it is given a cache.

    Leaving the block gives the model its own attention back; caches that were made inside cannot be used after it.

    Args:
        model: a causal language model of transformers.
        config: a configuration, a downloaded document, or the path of either.

    Raises:
        ConfigError: the configuration is malformed, was made for another model, or cannot run on this one.
        ModelError: the model cannot be compressed.
        RequestError: a setting makes no sense.
    """
    attention, compression = model.config._attn_implementation, Compression()
    generate: Any = model.generate
    plan = make_plan(model, config)

    def compressing(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - as generate()
        if options.get("past_key_values") is None and options.get("use_cache") is not False:
            compression.cache = options["past_key_values"] = CompressedCache(plan)
        return generate(*args, **options)

    own = vars(model).get("generate")
    vars(model)["generate"] = compressing
    try:
        yield compression
    finally:
        if own is None:
            del vars(model)["generate"]
        else:
            vars(model)["generate"] = own
        model.set_attn_implementation(attention)
