"""One configuration on one prompt, under its write rule: what is continued from, and how much is held."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from autokv.compression import CompressedKV, compress
from autokv.compression.compressed import stored_bytes
from autokv.compression.context import PrefillStatistics
from autokv.compression.on_write import LayerWriter
from autokv.config import CompressionConfig, FormatQuantization, OnWrite, check_fits, check_formats
from autokv.errors import ConfigError
from autokv.evaluation.clock import Timing, clock_us
from autokv.evaluation.continuation import DenseLayer
from autokv.evaluation.snapshot import LayerSnapshot, Snapshot
from autokv.models import LoadedModel
from autokv.runtime.attention import AttentionCall, attending, causal_mask, masked_attention, prefill_attention
from autokv.runtime.contents import LayerContents
from autokv.runtime.growth import Growth


class Candidate(ABC):
    """What every rule has in common: the full-attention layers of one snapshot, compressed."""

    next_logits: Tensor
    """``[vocabulary]`` float32: what follows the context's last token."""
    compress_us: float | None = None
    """Microseconds of compressing a layer, the median; None where that was not timed."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.compressed: list[CompressedKV] = []
        """By full-attention layer; empty where no kernel reads the format."""
        self._nbytes = 0

    @abstractmethod
    def open(self, layer: LayerSnapshot, room: int) -> LayerContents | DenseLayer:
        """As :meth:`autokv.evaluation.continuation.Source.open`."""

    def size(self) -> dict[str, float]:
        """``kv_bytes_per_token`` and ``compression_ratio``."""
        full = sum(2 * (layer.keys.numel() + layer.values.numel()) for layer in self._snapshot.layers)
        return {"kv_bytes_per_token": self._nbytes / self._snapshot.tokens, "compression_ratio": full / self._nbytes}


class AfterPrefillCandidate(Candidate):
    """The prompt's own prefill, compressed; sliding-window layers are left as they are."""

    def __init__(self, snapshot: Snapshot, config: CompressionConfig, new_tokens: int) -> None:
        super().__init__(snapshot)
        self.next_logits = snapshot.next_logits
        layers = snapshot.full_layers
        self._growth = Growth(config, layers[0].context.kernels_on(layers[0].keys.device))
        self._layers: list[CompressedKV] = []
        with torch.inference_mode():
            microseconds = [
                clock_us(lambda layer=layer: self._compress(layer, config), layer.keys.device)  # type: ignore[misc]
                for layer in layers
            ]
        stage = config.pipeline.quantization
        self._check_scales(layers[0], new_tokens)
        self._nbytes = sum(stored_bytes(one, stage) for one in self._layers) + snapshot.sliding_bytes
        if self._growth.has_kernels:
            self.compressed, self.compress_us = self._layers, Timing.of(microseconds).median

    def _compress(self, layer: LayerSnapshot, config: CompressionConfig) -> None:
        self._layers.append(compress(layer.keys, layer.values, layer.context, config))

    def open(self, layer: LayerSnapshot, room: int) -> LayerContents | DenseLayer:
        if layer.window is not None:
            return DenseLayer(layer.keys, layer.values, room)
        context = replace(layer.context, statistics=PrefillStatistics())
        return LayerContents(self._growth_behind(layer), self._layers[context.layer_index], context)

    def _check_scales(self, layer: LayerSnapshot, new_tokens: int) -> None:
        """A group of tokens is stored anew as tokens join it, which is not repeated here: the window must take them."""
        stage = self._growth_behind(layer).config.pipeline.quantization
        free = self._growth.capacity - self._layers[0].held.residual_tokens
        if isinstance(stage, FormatQuantization) and new_tokens > free and not all(f.per_token for f in stage.formats):
            raise ConfigError(
                f"shares scales between tokens, and {new_tokens} generated tokens do not fit the {free} free places of "
                "the residual window",
                field="pipeline.quantization",
                remedy=f'set residual_tokens to {new_tokens} or more and write to {{"rule": "after_prefill", '
                '"prompt_window": false}, or choose a format that scales each token by itself',
            )

    def _growth_behind(self, layer: LayerSnapshot) -> Growth:
        """An engine's format keeps the scales that it took from the prompt."""
        growth, pipeline = self._growth, self._growth.config.pipeline
        stage = pipeline.quantization
        if not isinstance(stage, FormatQuantization):
            return growth
        scaled = {
            "key": stage.key.calibrated(layer.keys.float()),
            "value": stage.value.calibrated(layer.values.float()),
        }
        pipeline = pipeline.model_copy(update={"quantization": stage.model_copy(update=scaled)})
        return replace(growth, config=growth.config.model_copy(update={"pipeline": pipeline}))


class OnWriteCandidate(Candidate):
    """A prefill of its own, in which every token is compressed as it is written.

    Sliding-window layers are compressed like the others.
    """

    def __init__(self, model: LoadedModel, snapshot: Snapshot, config: CompressionConfig) -> None:
        super().__init__(snapshot)
        self._config, self._layers = config, model.facts.layers
        self._held: list[tuple[Tensor, Tensor]] = []
        ids = torch.tensor([snapshot.prompt.context], device=model.device)
        with torch.inference_mode(), attending(self, model.facts):
            output = model.model(ids, use_cache=False, logits_to_keep=1)
        self.next_logits = output.logits[0, -1].float()

    def attend(self, call: AttentionCall) -> Tensor:
        """A layer's part of the prefill."""
        layer, tokens = self._snapshot.layers[call.layer], call.key.shape[2]
        writer = self._writer(layer)
        written = writer(call.key, call.value)
        self._held.append((written.keys, written.values))
        if layer.window is None:
            self._nbytes += written.nbytes
            self.compressed += [written.compressed] if written.compressed else []
        else:
            self._nbytes += written.nbytes * min(layer.window, tokens) // tokens
        write = self._config.pipeline.write
        read = replace(call, query=writer.queries(call.query), key=written.keys, value=written.values)
        if isinstance(write, OnWrite) and write.own_chunk == "exact":
            return _attend_in_chunks(call, read, write.chunk_tokens or tokens)
        return prefill_attention(read)

    def open(self, layer: LayerSnapshot, room: int) -> DenseLayer:
        return DenseLayer(*self._held[layer.layer], room, self._writer(layer))

    def _writer(self, layer: LayerSnapshot) -> LayerWriter:
        sliding = layer.window is not None
        return LayerWriter(self._config, layer.layer, self._layers, sliding, layer.context)


def _attend_in_chunks(exact: AttentionCall, read: AttentionCall, chunk: int) -> Tensor:
    """Causal attention of chunks of ``chunk`` tokens, each over itself as in ``exact`` and over those before it as they
    are read from the cache."""
    outputs, tokens = [], exact.key.shape[2]
    for start in range(0, tokens, chunk):
        stop = min(start + chunk, tokens)
        key, value = (
            torch.cat([old[:, :, :start], new[:, :, start:stop]], dim=2)
            for old, new in ((read.key, exact.key), (read.value, exact.value))
        )
        rows, columns = torch.arange(start, stop, device=key.device), torch.arange(stop, device=key.device)
        mask = causal_mask(rows, columns, exact.sliding_window)
        outputs.append(masked_attention(read, read.query[:, :, start:stop], key, value, mask))
    return torch.cat(outputs, dim=2)


def apply(
    model: LoadedModel, snapshot: Snapshot, config: CompressionConfig, new_tokens: int
) -> AfterPrefillCandidate | OnWriteCandidate:
    """``config`` on the prompt of ``snapshot``, under its own write rule, to be continued by ``new_tokens`` tokens.

    Raises:
        ConfigError: it does not fit the context, or cannot be judged over so many tokens.
    """
    facts = model.facts
    check_fits(config, head_dim=facts.head_dim, context_tokens=snapshot.tokens)
    check_formats(config, layers=facts.layers, kv_heads=facts.kv_heads, head_dim=facts.head_dim)
    if isinstance(config.pipeline.write, OnWrite):
        return OnWriteCandidate(model, snapshot, config)
    return AfterPrefillCandidate(snapshot, config, new_tokens)
