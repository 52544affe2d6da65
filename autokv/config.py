"""``CompressionConfig``: the one object that the search samples, the database stores and the user downloads.

A pipeline has three stages, each a union discriminated by ``method``; ``{"method": "none"}`` is always valid. The
digest is the SHA-256 of the canonical JSON of ``pipeline``, so that two spellings of one configuration agree.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from autokv.documents import first_problem, read_document
from autokv.errors import ConfigError
from autokv.formats import AnyKVFormat, KVFormat
from autokv.open_union import OpenUnion

SCHEMA_VERSION: Final = "autokv/v1"
Bits = Literal[2, 3, 4, 8]
GROUP_SIZES = (16, 32, 64, 128)
"""Of any axis; channels may also be grouped by whole heads, of which not every width has one of these."""
GroupSize = Annotated[int, Field(ge=8, le=1024, multiple_of=8)]


class Strict(BaseModel):
    """Frozen; unknown fields, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoStage(Strict):
    """The stage does nothing."""

    method: Literal["none"] = "none"


# --- eviction -------------------------------------------------------------------------------------------------------


class NoOptions(Strict):
    """The method has no options."""


class SnapKVOptions(Strict):
    window: int = Field(64, ge=1, le=1024, description="newest tokens whose queries score the others; they stay")
    kernel: int = Field(5, ge=1, le=63, description="width of the average pooling over tokens, odd")

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        return self


class H2OOptions(Strict):
    normalize: bool = Field(False, description="divide by the number of queries that could see the token (ZipCache)")


class ExpectedAttentionOptions(Strict):
    future_positions: int = Field(512, ge=1, le=65536, description="positions over which the rotation is averaged")
    use_covariance: bool = True
    use_value_norm: bool = True


class LagKVOptions(Strict):
    lag: int = Field(128, ge=2, le=4096, description="tokens of a partition")


class RandomOptions(Strict):
    seed: int = Field(0, ge=0, lt=2**31)


def _absent(value: object) -> bool:
    return value is None


class EvictionStage(Strict):
    """What every eviction method shares.

    Exactly one of ``keep_ratio`` and ``keep_tokens`` says how many of the context's tokens stay, averaged over layers
    and KV heads. The first ``sink_tokens`` and the last ``recent_tokens`` always stay.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": [one],
                    "properties": {one: {"type": "number"}, other: {"type": "null"}},
                }
                for one, other in (("keep_ratio", "keep_tokens"), ("keep_tokens", "keep_ratio"))
            ]
        }
    )

    title: ClassVar[str] = ""
    """What reports call the method."""

    method: str
    keep_ratio: float | None = Field(
        None, gt=0.0, le=1.0, exclude_if=_absent, description="share of the context's tokens that stays"
    )
    keep_tokens: int | None = Field(
        None, ge=1, le=2**31 - 1, exclude_if=_absent, description="tokens that stay, however long the context is"
    )
    sink_tokens: int = Field(4, ge=0, le=1024)
    recent_tokens: int = Field(64, ge=0, le=32768)
    layer_budget: Literal["uniform", "pyramid"] = "uniform"
    head_budget: Literal["uniform", "adaptive"] = "uniform"

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.keep_ratio is None) == (self.keep_tokens is None):
            both = "missing" if self.keep_ratio is None else "given"
            raise ValueError(f"keep_ratio and keep_tokens are both {both}; give one of them")
        return self

    @property
    def evicts(self) -> bool:
        """Whether any token can go."""
        return self.keep_ratio != 1

    @property
    def protected_recent(self) -> int:
        """Newest tokens that always stay."""
        return self.recent_tokens

    def budget(self, tokens: int) -> int:
        """How many of ``tokens`` stay per KV head on average, whatever always stays."""
        if self.keep_ratio is None:
            return tokens if self.keep_tokens is None else min(self.keep_tokens, tokens)
        # The epsilon keeps floor(100 * 0.29) at 29, where the product is 28.999999999999996.
        return int(tokens * self.keep_ratio + 1e-9)


class StreamingLLM(EvictionStage):
    title = "StreamingLLM"
    method: Literal["streaming_llm"]
    head_budget: Literal["uniform"] = "uniform"
    options: NoOptions = NoOptions()


class KNorm(EvictionStage):
    title = "KNorm"
    method: Literal["knorm"]
    options: NoOptions = NoOptions()


class KeyDiff(EvictionStage):
    title = "KeyDiff"
    method: Literal["keydiff"]
    options: NoOptions = NoOptions()


class SnapKV(EvictionStage):
    title = "SnapKV"
    method: Literal["snapkv"]
    options: SnapKVOptions = SnapKVOptions()

    @property
    def protected_recent(self) -> int:
        """The observation window stays too."""
        return max(self.recent_tokens, self.options.window)


class TOVA(EvictionStage):
    title = "TOVA"
    method: Literal["tova"]
    options: NoOptions = NoOptions()


class H2O(EvictionStage):
    title = "H2O"
    method: Literal["h2o"]
    options: H2OOptions = H2OOptions()


class ExpectedAttention(EvictionStage):
    title = "Expected Attention"
    method: Literal["expected_attention"]
    options: ExpectedAttentionOptions = ExpectedAttentionOptions()


class LagKV(EvictionStage):
    title = "LagKV"
    method: Literal["lagkv"]
    options: LagKVOptions = LagKVOptions()


class Random(EvictionStage):
    title = "Random"
    method: Literal["random"]
    options: RandomOptions = RandomOptions()


BuiltInEviction = NoStage | StreamingLLM | KNorm | KeyDiff | SnapKV | TOVA | H2O | ExpectedAttention | LagKV | Random
BUILT_IN_EVICTIONS: Final[tuple[type[BaseModel], ...]] = get_args(BuiltInEviction)
EVICTIONS: Final = OpenUnion(BUILT_IN_EVICTIONS, EvictionStage, "autokv.scorers")
"""Each entry point names a ``Scorer`` class."""
Eviction = Annotated[BuiltInEviction, Field(discriminator="method"), EVICTIONS]


# --- quantization ---------------------------------------------------------------------------------------------------


class IntegerFormat(Strict):
    """Asymmetric min-max integers.

    ``axis`` is what shares a scale: ``channel`` gives each channel its own scale over ``group_size`` consecutive
    tokens; ``token`` gives each token its own scale over ``group_size`` consecutive channels. Sizes are 16, 32, 64 and
    128; channels may also be grouped by a whole head of any multiple of 8 (72, say, which none of these divides).
    """

    bits: Bits
    axis: Literal["channel", "token"]
    group_size: GroupSize = 64

    @field_validator("group_size")
    @classmethod
    def _tokens_come_in_powers_of_two(cls, size: int, others: ValidationInfo) -> int:
        if others.data.get("axis") == "channel" and size not in GROUP_SIZES:
            raise ValueError("for axis 'channel' it should be 16, 32, 64 or 128")
        return size


class IntegerQuantization(Strict):
    method: Literal["integer"]
    key: IntegerFormat
    value: IntegerFormat
    rotation: Literal["none", "hadamard"] = "none"
    residual_tokens: int = Field(128, ge=0, le=32768, description="newest tokens held in 16 bits")


class FP8Quantization(Strict):
    """e4m3 with one scale per KV head, keys and values apart."""

    method: Literal["fp8"]
    rotation: Literal["none", "hadamard"] = "none"
    residual_tokens: int = Field(0, ge=0, le=32768)


class LayerFormats(Strict):
    """Layers that are held otherwise than the rest."""

    layers: tuple[int, ...] | Literal["sliding_window"] = Field(
        description="indices in the model, negative ones from its last layer, or every layer with a sliding window"
    )
    key: AnyKVFormat
    value: AnyKVFormat

    def covers(self, layer: int, count: int, *, sliding: bool) -> bool:
        """Whether these are the formats of ``layer`` of ``count``."""
        if isinstance(self.layers, str):
            return sliding
        return layer in self.layers or layer - count in self.layers


class FormatQuantization(Strict):
    """Keys and values in the formats of an engine's KV cache; they are judged here, not run."""

    method: Literal["format"]
    key: AnyKVFormat
    value: AnyKVFormat
    layers: tuple[LayerFormats, ...] = Field(
        (), description="layers held otherwise; the first entry that names one counts"
    )
    residual_tokens: int = Field(0, ge=0, le=32768, description="newest tokens held in 16 bits")

    def of_layer(self, layer: int, count: int, *, sliding: bool) -> tuple[KVFormat, KVFormat]:
        """Formats of keys and values of ``layer`` of a model of ``count`` layers."""
        for entry in self.layers:
            if entry.covers(layer, count, sliding=sliding):
                return entry.key, entry.value
        return self.key, self.value


Quantization = Annotated[
    NoStage | IntegerQuantization | FP8Quantization | FormatQuantization, Field(discriminator="method")
]


# --- low rank -------------------------------------------------------------------------------------------------------


class LowRankStage(Strict):
    """Ranks per KV head; 0 leaves that side alone."""

    key_rank: int = Field(ge=0, le=512)
    value_rank: int = Field(ge=0, le=512)

    @model_validator(mode="after")
    def _some_rank(self) -> Self:
        if self.key_rank == 0 and self.value_rank == 0:
            raise ValueError('key_rank and value_rank are both 0; use {"method": "none"}')
        return self


class ResidualLowRank(LowRankStage):
    """Rank-r factors of the quantization error (GEAR, Kang et al. 2024)."""

    method: Literal["residual"]


class LatentLowRank(LowRankStage):
    """Tokens as coordinates in a rank-r SVD basis per KV head; the coordinates are what is quantized (SVDq, 2025)."""

    method: Literal["latent"]


LowRank = Annotated[NoStage | ResidualLowRank | LatentLowRank, Field(discriminator="method")]


# --- how tokens are written -----------------------------------------------------------------------------------------


class AfterPrefill(Strict):
    """The prompt attends to itself in full precision and is compressed once it is read; a new token stays in the
    residual window and is compressed when it leaves it. AutoKV's runtime and kvpress."""

    rule: Literal["after_prefill"] = "after_prefill"


class OnWrite(Strict):
    """Every token is compressed when it is written, and whatever attends reads it compressed: the prompt's later tokens
    and layers too. vLLM, SGLang, llama.cpp and other servers."""

    rule: Literal["on_write"]
    own_chunk: Literal["compressed", "exact"] = Field(
        "compressed", description="how the tokens of a prefill chunk see each other"
    )
    chunk_tokens: int | None = Field(
        None, ge=1, description="tokens of a prefill chunk, where own_chunk is exact; null: the whole prompt"
    )


Write = Annotated[AfterPrefill | OnWrite, Field(discriminator="rule")]


# --- the configuration ----------------------------------------------------------------------------------------------


def _is_after_prefill(value: object) -> bool:
    return isinstance(value, AfterPrefill)


class Pipeline(Strict):
    """Eviction, then quantization, then low-rank, and when a token is written."""

    eviction: Eviction = NoStage()
    quantization: Quantization = NoStage()
    low_rank: LowRank = NoStage()
    write: Write = Field(
        AfterPrefill(),
        exclude_if=_is_after_prefill,
        description="when a token is compressed; the name of the rule will do",
    )

    @field_validator("write", mode="before")
    @classmethod
    def _rule_by_name(cls, write: object) -> object:
        return {"rule": write} if isinstance(write, str) else write

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        if self.low_rank.method == "residual" and self.quantization.method == "none":
            raise ValueError(
                "low_rank.method 'residual' corrects a quantization error, but quantization.method is 'none'; "
                "choose a quantization or low_rank.method 'latent'"
            )
        if self.quantization.method == "format" and self.low_rank.method != "none":
            raise ValueError('quantization.method \'format\' takes no low_rank stage; use {"method": "none"}')
        if isinstance(self.write, OnWrite):
            self._check_on_write(self.quantization)
        elif isinstance(self.quantization, FormatQuantization) and self.quantization.layers:
            raise ValueError("quantization.layers is for write 'on_write' only")
        return self

    def _check_on_write(self, stage: Quantization) -> None:
        """Check that a token can be compressed alone."""
        for name, other in (("eviction", self.eviction), ("low_rank", self.low_rank)):
            if other.method != "none":
                raise ValueError(f'write \'on_write\' takes no {name} stage; use {{"method": "none"}}')
        if isinstance(stage, NoStage):
            return
        if stage.residual_tokens:
            raise ValueError("write 'on_write' has no residual window; set quantization.residual_tokens to 0")
        if stage.method == "fp8":
            raise ValueError(
                "quantization.method 'fp8' finds its scales in the whole prompt; for write 'on_write' use method "
                "'format' with fp8_e4m3"
            )
        sides: list[tuple[str, IntegerFormat | KVFormat]] = [("key", stage.key), ("value", stage.value)]
        if isinstance(stage, FormatQuantization):
            sides += [
                (f"layers.{i}.{side}", getattr(e, side))
                for i, e in enumerate(stage.layers)
                for side in ("key", "value")
            ]
        for name, form in sides:
            if not (form.axis == "token" if isinstance(form, IntegerFormat) else form.per_token):
                raise ValueError(
                    f"quantization.{name} shares scales between tokens, which write 'on_write' cannot; choose a format "
                    "that scales each token by itself"
                )

    @property
    def is_identity(self) -> bool:
        """Whether every stage is ``none``."""
        return self == Pipeline()


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
            for one in (quantization, *quantization.layers):
                one.key.check(head_dim)
                one.value.check(head_dim)
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


def _group_that_divides(width: int) -> int:
    """The largest group of channels that a width allows, a whole head where no usual one does."""
    return max((size for size in GROUP_SIZES if width % size == 0), default=width)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of :class:`ConfigurationDocument`."""
    schema = ConfigurationDocument.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
