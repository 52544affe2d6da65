"""A deployment target: what an engine can hold, how it writes tokens, and its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from autokv.config import (
    AfterPrefill,
    CompressionConfig,
    FormatQuantization,
    LayerFormats,
    NoStage,
    OnWrite,
    Pipeline,
    Write,
)
from autokv.export.fidelity import Fidelity, compare
from autokv.export.findings import Device, Finding, refusal
from autokv.export.selection import nearest_pipeline
from autokv.formats import KVFormat
from autokv.models.facts import ModelFacts

ArtifactKind = Literal["arguments", "environment", "yaml", "json", "python"]


@dataclass(frozen=True)
class Artifact:
    """One file that a target is set up with."""

    kind: ArtifactKind
    name: str
    """File name."""
    text: str


class Target(ABC):
    """An engine, or a library.

    ``hold``, ``arguments`` and ``parse`` belong together: what a target holds it holds exactly, and the options for it
    are read back as the same configuration.
    """

    name: ClassVar[str]
    """On the command line."""
    title: ClassVar[str]
    version: ClassVar[str]
    """That everything here was read from."""
    source: ClassVar[str]
    """Address of the file that has its options."""
    write: ClassVar[Write]
    """When it compresses a token, unless its options say otherwise."""
    holds: ClassVar[str]
    """What it can hold, in a few words."""
    bytes_counted: ClassVar[str]
    """How its bytes are counted."""
    reasons: ClassVar[Mapping[str, str]] = {}
    """Why a part changes, by the part's name; of one not listed, a general reason."""

    def hold(self, config: CompressionConfig, facts: ModelFacts | None = None) -> Fidelity:
        """What this target makes of ``config``; ``facts`` are of the model, whose heads not every format fits."""
        if config == CompressionConfig(pipeline=Pipeline(write=config.pipeline.write)):
            return Fidelity("exact", config, ())
        held = CompressionConfig(pipeline=self.held(config.pipeline, facts))
        return compare(config, held, self.why)

    def held(self, asked: Pipeline, facts: ModelFacts | None) -> Pipeline:
        """The pipeline nearest to ``asked``, which has a stage; the usual target has no eviction and no low rank."""
        choices = () if isinstance(asked.quantization, NoStage) else self.settings(asked, facts)
        return nearest_pipeline(asked, choices, facts) or Pipeline(write=asked.write)

    @abstractmethod
    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterable[Pipeline]:
        """What the target can hold, near to ``asked``, which quantizes; ``asked`` itself if it can hold it."""

    @abstractmethod
    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        """The engine's own options for what it holds; :meth:`parse` reads them back.

        Raises:
            ConfigError: they cannot be written without ``facts``.
        """

    @abstractmethod
    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        """What the engine would hold with its own options.

        Raises:
            ConfigError: an option or a value that is unknown, or whose effect AutoKV cannot judge.
        """

    @abstractmethod
    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        """Files that set the engine up for what it holds; ``model`` is what it is to load.

        Raises:
            ConfigError: they cannot be written without ``facts``.
        """

    def check(
        self,
        held: CompressionConfig,
        facts: ModelFacts | None = None,
        device: Device | None = None,
        backend: str | None = None,
    ) -> tuple[Finding, ...]:
        """What is known to go wrong with ``held`` on a model, a device and an attention backend of the engine.

        Raises:
            ConfigError: the engine has no such backend.
        """
        return (*self._misfits(held, facts), *self.findings(held.pipeline, facts, device, backend))

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterable[Finding]:
        """The target's own part of :meth:`check`."""
        del held, facts, device, backend
        return ()

    def why(self, part: str) -> str:
        """Why a part of a configuration changes."""
        if part in self.reasons:
            return self.reasons[part]
        general = {
            "eviction": f"{self.title} has no eviction",
            "low_rank": f"{self.title} has no low-rank stage",
            "write": f"{self.title} compresses tokens by this rule",
            "quantization.layers": f"{self.title} holds layers so",
            "quantization.residual_tokens": f"{self.title} has no window of 16 bits",
        }
        return general.get(part, f"nearest of {self.title}'s formats by bits")

    def _misfits(self, held: CompressionConfig, facts: ModelFacts | None) -> Iterable[Finding]:
        stage = held.pipeline.quantization
        if facts is None or not isinstance(stage, FormatQuantization):
            return
        for form in dict.fromkeys(stage.formats):
            try:
                form.check(facts.head_dim, facts.kv_heads)
            except ValueError as error:
                yield refusal(f"{facts.name}: {error}", form.source)


def written(
    key: KVFormat, value: KVFormat, write: Write, *, layers: tuple[LayerFormats, ...] = (), residual_tokens: int = 0
) -> Pipeline:
    """A pipeline that only quantizes, in an engine's formats."""
    stage = FormatQuantization(
        method="format",
        key=key,
        value=value,
        layers=layers if isinstance(write, OnWrite) else (),
        residual_tokens=residual_tokens if isinstance(write, AfterPrefill) else 0,
    )
    return Pipeline(quantization=stage, write=write)


def formats_of(held: Pipeline) -> tuple[KVFormat, KVFormat] | None:
    """Keys' and values' formats; None of what is not in an engine's formats."""
    stage = held.quantization
    return (stage.key, stage.value) if isinstance(stage, FormatQuantization) else None


COMPRESSED = OnWrite(rule="on_write")
"""A prefill chunk reads itself compressed."""


def own_chunk_exact(asked: Write, usual: int) -> OnWrite:
    """The rule of an engine whose prefill chunks see themselves exactly, with the chunk of ``asked`` if it has one."""
    given = isinstance(asked, OnWrite) and asked.own_chunk == "exact"
    chunk = asked.chunk_tokens if isinstance(asked, OnWrite) and given else None
    return OnWrite(rule="on_write", own_chunk="exact", chunk_tokens=chunk or usual)
