"""``TuningRequest``: everything a tuning run is asked, in one validated object."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from autokv.config import Strict
from autokv.evaluation.metrics import METRICS

DEFAULT_OBJECTIVES = ("kl_divergence", "kv_bytes_per_token", "attention_us")
GENERATED_METRICS = frozenset({"task_score", "negative_sample_rate", "output_length_ratio"})
"""Metrics that need generated answers, hence prompts or tasks."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class TuningRequest(Strict):
    """A tuning run; the fields are the options of ``autokv tune`` and the keys of its YAML file."""

    model: Name = Field(description="Hugging Face id, local folder or GGUF file")
    workload: Name | None = Field(None, description="trace that sets the context lengths")
    text: Name | None = Field(None, description="text file, cut into samples")
    prompts: Name | None = Field(None, description="JSONL file of prompts")
    tasks: bool = Field(False, description="generated tasks")
    space: Name = Field("balanced", description="name of a built-in search space, or a YAML file")
    objectives: tuple[str, ...] = Field(DEFAULT_OBJECTIVES, min_length=1, max_length=4)
    maximums: dict[str, float] = Field(default_factory=dict, description="constraints: metric at most")
    minimums: dict[str, float] = Field(default_factory=dict, description="constraints: metric at least")
    sampler: Literal["tpe", "nsgaii", "gp", "random"] = "tpe"
    trials: int = Field(60, ge=1, le=100_000)
    batch_size: int = Field(4, ge=1, le=64, description="candidates that are asked for, run and stored together")
    timeout: float | None = Field(None, gt=0, le=30 * 86400, description="seconds")
    patience: int | None = Field(None, ge=1, description="stop after this many trials without hypervolume gain")
    seed: int = Field(0, ge=0, lt=2**31)
    samples: int = Field(4, ge=1, le=4096, description="calibration prompts")
    validation_samples: int = Field(4, ge=1, le=4096)
    context_tokens: int | None = Field(None, ge=16, description="context length, where no workload gives it")
    max_context_tokens: int | None = Field(None, ge=16)
    continuation_tokens: int = Field(64, ge=2, le=4096)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Name = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = [*self.objectives, *self.maximums, *self.minimums]
        unknown = [name for name in named if name not in METRICS]
        if unknown:
            raise ValueError(f"unknown metric {unknown[0]!r}; choose from {', '.join(METRICS)}")
        if len(set(self.objectives)) != len(self.objectives):
            raise ValueError("an objective is named twice")
        sources = [name for name in ("text", "prompts", "tasks") if getattr(self, name)]
        if len(sources) > 1:
            raise ValueError(f"{' and '.join(sources)} cannot be combined; choose one source of prompts")
        generated = sorted(GENERATED_METRICS.intersection(named))
        if generated and not (self.tasks or self.prompts):
            raise ValueError(f"{generated[0]} needs generated answers; add tasks or prompts")
        return self
