"""The stages together, and when a token is compressed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from autokv.config.base import NoStage, Strict
from autokv.config.eviction import Eviction
from autokv.config.quantization import FormatQuantization, IntegerFormat, Quantization


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


class AfterPrefill(Strict):
    """The prompt attends to itself in full precision and is compressed once it is read; a new token stays in the
    residual window and is compressed when it leaves it. AutoKV's runtime and kvpress."""

    rule: Literal["after_prefill"] = "after_prefill"
    prompt_window: bool = Field(
        True,
        description="whether the prompt's newest tokens stay in the residual window; transformers' QuantizedCache "
        "compresses the whole prompt",
    )


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

    @model_validator(mode="after")
    def _chunks_matter(self) -> Self:
        if self.chunk_tokens is not None and self.own_chunk == "compressed":
            raise ValueError("chunk_tokens changes nothing with own_chunk 'compressed'; leave it out, or say 'exact'")
        return self


Write = Annotated[AfterPrefill | OnWrite, Field(discriminator="rule")]
WRITE_RULES = ("after_prefill", "on_write")


def _name_or_rule(schema: dict[str, Any]) -> None:
    """The name of a rule is a rule, in the JSON Schema too."""
    schema.pop("discriminator", None)
    schema["oneOf"] = [{"type": "string", "enum": list(WRITE_RULES)}, *schema["oneOf"]]


def _is_default(value: object) -> bool:
    return value == AfterPrefill()


class Pipeline(Strict):
    """Eviction, then quantization, then low-rank, and when a token is written."""

    eviction: Eviction = NoStage()
    quantization: Quantization = NoStage()
    low_rank: LowRank = NoStage()
    write: Write = Field(
        AfterPrefill(),
        exclude_if=_is_default,
        description="when a token is compressed; the name of the rule will do",
        json_schema_extra=_name_or_rule,
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
        forms = stage.formats if isinstance(stage, FormatQuantization) else (stage.key, stage.value)
        if not all(form.axis == "token" if isinstance(form, IntegerFormat) else form.per_token for form in forms):
            raise ValueError(
                "write 'on_write' compresses each token by itself, but a format of the quantization shares scales "
                "between tokens; choose one that does not"
            )

    @property
    def is_identity(self) -> bool:
        """Whether every stage is ``none``."""
        return self.model_copy(update={"write": AfterPrefill()}) == Pipeline()
