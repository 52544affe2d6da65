"""``CompressionConfig``: the one object that the search samples, the database stores and the user downloads.

The digest is the SHA-256 of the canonical JSON of ``pipeline``, so that two spellings of one configuration agree.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import ValidationError

from autokv.config.base import NoStage, Strict
from autokv.config.pipeline import LatentLowRank, Pipeline
from autokv.config.quantization import GROUP_SIZES, FormatQuantization, IntegerFormat, IntegerQuantization
from autokv.documents import first_problem, read_document
from autokv.errors import ConfigError

SCHEMA_VERSION: Final = "autokv/v1"


class CompressionConfig(Strict):
    """A compression pipeline, schema ``autokv/v1``."""

    schema_version: Literal["autokv/v1"] = SCHEMA_VERSION
    pipeline: Pipeline = Pipeline()

    @property
    def canonical_json(self) -> str:
        """``pipeline`` with every default written out, keys sorted, no white space."""
        return json.dumps(self.pipeline.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of :attr:`canonical_json`, in hexadecimal."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()

    @classmethod
    def parse(cls, document: object, *, where: str = "") -> Self:
        """Validate a decoded document; ``where`` (a file name) opens the path in the error.

        Raises:
            ConfigError: naming the first field that is wrong, and how many more there are.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            path, message, remedy = first_problem(cls, error)
            field = ": ".join(part for part in (where, path) if part) or None
            raise ConfigError(message, field=field, remedy=remedy or "see `autokv config schema`") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and validate a JSON or YAML file.

        Raises:
            ConfigError: the file is missing, too large, neither JSON nor YAML, or not a valid configuration.
        """
        document = read_document(path, error=ConfigError, remedy="see `autokv config schema`")
        return cls.parse(document, where=str(path))


class ConfigurationDocument(CompressionConfig):
    """What is downloaded: a configuration and where its figures come from.

    ``measured`` and ``validated`` map a metric's name to its statistics; ``serving`` compares with 16 bits and fp8 on
    the workload; every other block is free-form facts.
    """

    model: dict[str, Any] | None = None
    hardware: dict[str, Any] | None = None
    workload: dict[str, Any] | None = None
    measured: dict[str, Any] | None = None
    validated: dict[str, Any] | None = None
    serving: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None

    def config(self) -> CompressionConfig:
        """The configuration alone."""
        return CompressionConfig(pipeline=self.pipeline)


def check_fits(config: CompressionConfig, *, head_dim: int, context_tokens: int, field: str = "pipeline") -> None:
    """Check a valid configuration against the shape it is to compress.

    Raises:
        ConfigError: the combination cannot run on ``context_tokens`` tokens of ``head_dim`` channels.
    """
    eviction, quantization, low_rank = config.pipeline.eviction, config.pipeline.quantization, config.pipeline.low_rank

    def refuse(path: str, message: str, remedy: str) -> None:
        raise ConfigError(message, field=f"{field}.{path}", remedy=remedy)

    if not isinstance(eviction, NoStage):
        # A number of tokens may cover a whole short context; a share below 1 never does.
        field_, kept = "keep_tokens", eviction.keep_tokens
        if kept is None:
            field_, kept = "keep_ratio", eviction.budget(context_tokens)
        recent = eviction.protected_recent
        if kept < eviction.sink_tokens + recent and eviction.evicts:
            of = f" of {context_tokens}" if eviction.keep_tokens is None else ""
            refuse(
                f"eviction.{field_}",
                f"keeps {kept}{of} tokens, fewer than the {eviction.sink_tokens} sink and {recent} "
                "recent tokens that always stay",
                f"raise {field_}, or lower sink_tokens, recent_tokens or options.window",
            )
    widths = {"key": head_dim, "value": head_dim}
    if not isinstance(low_rank, NoStage):
        for side in widths:
            rank = getattr(low_rank, f"{side}_rank")
            if rank > head_dim:
                refuse(f"low_rank.{side}_rank", f"{rank} exceeds head_dim {head_dim}", f"use at most {head_dim}")
            if isinstance(low_rank, LatentLowRank) and rank:
                widths[side] = rank
    if isinstance(quantization, FormatQuantization):
        try:
            for kv_format in quantization.formats:
                kv_format.check(head_dim)
        except ValueError as error:
            refuse("quantization", str(error), "choose another format")
    if isinstance(quantization, IntegerQuantization):
        for side, width in widths.items():
            form: IntegerFormat = getattr(quantization, side)
            if form.axis == "token" and width % form.group_size:
                refuse(
                    f"quantization.{side}.group_size",
                    f"{form.group_size} does not divide the {width} channels that a token has",
                    f"use {_group_that_divides(width)}, or axis 'channel'",
                )
            if form.axis == "channel" and form.group_size > context_tokens:
                refuse(
                    f"quantization.{side}.group_size",
                    f"{form.group_size} is larger than the context of {context_tokens} tokens",
                    "use a smaller group_size",
                )


def check_formats(config: CompressionConfig, *, layers: int, kv_heads: int, head_dim: int) -> None:
    """Check an engine's formats against a model of ``layers`` layers.

    Raises:
        ConfigError: an index names no layer, or scales are not for ``kv_heads`` KV heads.
    """
    stage, field = config.pipeline.quantization, "pipeline.quantization"
    if not isinstance(stage, FormatQuantization):
        return
    for place, entry in enumerate(stage.layers):
        beyond = [] if isinstance(entry.layers, str) else [one for one in entry.layers if not -layers <= one < layers]
        if beyond:
            raise ConfigError(
                f"names layer {beyond[0]}, but the model has {layers}",
                field=f"{field}.layers.{place}.layers",
                remedy=f"use {-layers} to {layers - 1}",
            )
    try:
        for kv_format in stage.formats:
            kv_format.check(head_dim, kv_heads)
    except ValueError as error:
        raise ConfigError(str(error), field=field, remedy="choose another format, or give as many scales") from None


def _group_that_divides(width: int) -> int:
    """The largest group of channels that a width allows, a whole head where no usual one does."""
    return max((size for size in GROUP_SIZES if width % size == 0), default=width)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of :class:`ConfigurationDocument`."""
    schema = ConfigurationDocument.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
