"""The first stage: which tokens stay."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from autokv.config.base import NoStage, Strict
from autokv.open_union import OpenUnion


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
