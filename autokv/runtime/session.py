"""``compress``: a model whose ``generate()`` compresses, for as long as a ``with`` block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import RLock
from typing import Any

from transformers import PreTrainedModel

from autokv.config import CompressionConfig
from autokv.errors import RequestError
from autokv.runtime.cache import CompressedCache
from autokv.runtime.plan import Plan, make_plan


class Compression:
    """What :func:`compress` gives."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.cache: CompressedCache | None = None
        """The cache of the newest ``generate()`` that was given none of its own."""

    def new_cache(self) -> CompressedCache:
        """An empty cache, which becomes :attr:`cache`."""
        self.cache = CompressedCache(self._plan)
        return self.cache


class _Installation:
    """A model's own attention and ``generate()``, and the blocks that are open on it, whoever opened them."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._attention = model.config._attn_implementation
        self._own = vars(model).get("generate")
        self.generate: Any = model.generate
        self.open: list[Compression] = []

    def install(self, model: PreTrainedModel) -> None:
        def compressing(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - as generate()
            if options.get("past_key_values") is None and _uses_cache(model, args, options):
                options["past_key_values"] = self._chosen().new_cache()
            return self.generate(*args, **options)

        vars(model)["generate"] = compressing

    def remove(self, model: PreTrainedModel) -> None:
        if self._own is None:
            del vars(model)["generate"]
        else:
            vars(model)["generate"] = self._own
        model.set_attn_implementation(self._attention)

    def _chosen(self) -> Compression:
        """The newest open block of this thread or task; that of another one if it is the only block.

        Raises:
            RequestError: several blocks are open elsewhere, none here.
        """
        own = [compression for compression in _BLOCKS.get() if compression in self.open]
        if own:
            return own[-1]
        if len(self.open) == 1:
            return self.open[0]
        raise RequestError(
            f"{len(self.open)} threads compress this model, and this one has no `autokv.compress` block of its own",
            field="generate",
            remedy="open a block here, or pass past_key_values=CompressedCache.from_config(model, config)",
        )


_BLOCKS: ContextVar[tuple[Compression, ...]] = ContextVar("autokv_blocks", default=())
"""Blocks that this thread or task has opened, oldest first, on any model."""
_INSTALLED: dict[PreTrainedModel, _Installation] = {}
"""Models that a block is open on."""
_LOCK = RLock()


@contextmanager
def compress(model: PreTrainedModel, config: CompressionConfig | str | Path) -> Iterator[Compression]:
    """Within the block, ``model.generate()`` uses a new :class:`CompressedCache`, unless it is given a cache.

    Blocks may overlap, in one thread or in several: a call takes the newest block of its own thread or task. A thread
    without a block takes the only one that is open. When the last block ends, the model has its own attention back;
    caches that were made inside cannot be used after that.

    Args:
        model: a causal language model of transformers.
        config: a configuration, a downloaded document, or the path of either.

    Raises:
        ConfigError: the configuration is malformed, was made for another model, or cannot run on this one.
        ModelError: the model cannot be compressed.
        RequestError: a setting makes no sense.
    """
    compression = _enter(model, config)
    _BLOCKS.set((*_BLOCKS.get(), compression))
    try:
        yield compression
    finally:
        _BLOCKS.set(tuple(other for other in _BLOCKS.get() if other is not compression))
        _leave(model, compression)


def _enter(model: PreTrainedModel, config: CompressionConfig | str | Path) -> Compression:
    with _LOCK:
        installed = _INSTALLED.get(model) or _Installation(model)
        compression = Compression(make_plan(model, config))
        if not installed.open:
            installed.install(model)
            _INSTALLED[model] = installed
        installed.open.append(compression)
        return compression


def _leave(model: PreTrainedModel, compression: Compression) -> None:
    with _LOCK:
        installed = _INSTALLED[model]
        installed.open.remove(compression)
        if not installed.open:
            del _INSTALLED[model]
            installed.remove(model)


def _uses_cache(model: PreTrainedModel, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether ``generate(*args, **options)`` will use a cache.

    Raises:
        RequestError: a generation configuration switches it off, which fine-tuning often leaves behind; only an
            argument of the call itself may.
    """
    given = options.get("use_cache")
    if given is not None:
        return bool(given)
    stated = options.get("generation_config") or (args[1] if len(args) > 1 else None) or model.generation_config
    if getattr(stated, "use_cache", None) is False:
        raise RequestError(
            "is False, so that nothing would be compressed",
            field="generation_config.use_cache",
            remedy="pass use_cache=True to generate(), or use_cache=False to go without compression",
        )
    return True
