"""Tokens that are compressed as they are written: each by itself, and read compressed from then on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autokv.compression.compressed import CompressedKV
from autokv.compression.context import LayerContext
from autokv.compression.pipeline import compress
from autokv.config import CompressionConfig, FormatQuantization, NoStage
from autokv.formats import KVFormat


@dataclass(frozen=True)
class Written:
    """Some tokens of one layer of one sequence."""

    keys: Tensor
    """``[1, kv_heads, tokens, head_dim]`` in the model's dtype: what attention reads of them."""
    values: Tensor
    nbytes: int
    """What the cache holds of them."""
    compressed: CompressedKV | None
    """As AutoKV's kernels hold them; None where they do not know the format."""


@dataclass(frozen=True)
class LayerWriter:
    """How one layer of a model writes tokens.

    Args:
        config: with write rule ``on_write``.
        layer: index in the model.
        layers: layers of the model.
        sliding: whether the layer has a sliding window.
        context: the layer, as a compressor sees it.
    """

    config: CompressionConfig
    layer: int
    layers: int
    sliding: bool
    context: LayerContext

    @torch.no_grad()
    def __call__(self, keys: Tensor, values: Tensor) -> Written:
        """Write ``[1, kv_heads, tokens, head_dim]``, after RoPE."""
        stage, dtype = self.config.pipeline.quantization, keys.dtype
        if isinstance(stage, NoStage):
            return Written(keys, values, 2 * (keys.numel() + values.numel()), None)
        if not isinstance(stage, FormatQuantization):
            compressed = compress(keys, values, self.context, self.config)
            key, value, _ = compressed.materialize(dtype)
            return Written(key, value, compressed.nbytes, compressed)
        formats = self._formats(stage)
        key, value = (
            form.round_trip(side.float()).to(dtype) for form, side in zip(formats, (keys, values), strict=True)
        )
        _, heads, tokens, head_dim = keys.shape
        return Written(key, value, sum(form.nbytes(tokens, heads, head_dim) for form in formats), None)

    def queries(self, query: Tensor) -> Tensor:
        """What the engine's attention makes of queries ``[1, query_heads, tokens, head_dim]``."""
        stage = self.config.pipeline.quantization
        if not isinstance(stage, FormatQuantization):
            return query
        return self._formats(stage)[0].query_round_trip(query.float()).to(query.dtype)

    def _formats(self, stage: FormatQuantization) -> tuple[KVFormat, KVFormat]:
        return stage.of_layer(self.layer, self.layers, sliding=self.sliding)
