"""LMCache: vLLM's cache, and a tier behind it that keeps the blocks as vLLM has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

from autokv.config import CompressionConfig, Pipeline
from autokv.documents import rendered
from autokv.errors import ConfigError
from autokv.export.findings import Device, Finding, refusal, warning
from autokv.export.options import choice
from autokv.export.target import Artifact
from autokv.export.vllm import VLLM
from autokv.models.facts import ModelFacts

SERDES: Final = ("naive", "cachegen", "kivi")
_CONNECTOR: Final = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}


class LMCache(VLLM):
    """Its serializers other than ``naive`` lose more, and AutoKV does not judge them."""

    name: ClassVar[str] = "lmcache"
    title: ClassVar[str] = "LMCache"
    version: ClassVar[str] = "0.5.6 with vLLM 0.32.0"
    source: ClassVar[str] = "https://github.com/LMCache/LMCache/blob/v0.5.6/lmcache/v1/config.py"
    holds: ClassVar[str] = "what vLLM holds; its own tier keeps the same bytes (remote_serde naive)"
    bytes_counted: ClassVar[str] = "as vLLM"

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        own = [each for each in arguments if not each.startswith(("remote_serde=", "LMCACHE_REMOTE_SERDE="))]
        for each in set(arguments) - set(own):
            serde = choice(each.partition("=")[2], SERDES, option="remote_serde", target=self.title)
            if serde != "naive":
                what = "is an empty stub" if serde == "kivi" else "cannot be judged by AutoKV"
                raise ConfigError(
                    f"LMCache's remote_serde {serde} {what}", field="--engine-args", remedy="give remote_serde=naive"
                )
        return super().parse(own)

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        settings: dict[str, Any] = {"chunk_size": 256, "local_cpu": True, "max_local_cpu_size": 5.0}
        connector = f" --kv-transfer-config '{json.dumps(_CONNECTOR)}'\n"
        command, *_ = super().render(held, facts, model)
        return (
            Artifact(
                "arguments",
                "vllm-serve-lmcache.sh",
                "LMCACHE_CONFIG_FILE=lmcache.yaml " + command.text.rstrip("\n") + connector,
            ),
            Artifact("yaml", "lmcache.yaml", rendered({**settings, "remote_serde": "naive"}, "yaml").decode()),
        )

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        yield from super().findings(held, facts, device, backend)
        if self.dtype(held) is None:
            return
        yield warning(
            "prefill servers, decode servers and every reader of the tier need the same --kv-cache-dtype", self.source
        )
        if (self.dtype(held) or "").startswith("fp8"):
            yield warning(
                "LMCache's TurboQuant serializer on an fp8 cache stores 0 bytes and reports success; keep naive",
                "https://github.com/LMCache/LMCache/issues/4064",
            )
        if device is not None and device.kind == "cpu":
            yield refusal("LMCache's kernels are for CUDA", self.source)
