"""``TuningRequest``: everything a tuning run is asked, in one validated object."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, StringConstraints, ValidationError, model_validator

from autokv.config import Strict
from autokv.documents import MemorySize, first_problem, read_document
from autokv.errors import RequestError, nearest
from autokv.evaluation.metrics import CONFIRMED_METRICS, METRICS, SERVING_METRICS

DEFAULT_OBJECTIVES = ("kl_divergence", "kv_bytes_per_token", "attention_us")
GENERATED_METRICS = frozenset({"task_score", "negative_sample_rate", "output_length_ratio"})
"""Metrics that need generated answers, hence prompts or tasks."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
TraceField = Literal["arrival", "input_tokens", "output_tokens", "session"]
READING = ("columns", "time_unit", "tokenizer", "hash_block_size", "max_bad_rows")
"""Fields that say how the workload's file is read."""


class SearchFields(Strict):
    """What a tuning run is asked wherever it is asked: on the command line, in a YAML file or over HTTP."""

    model: Name = Field(description="Hugging Face id, local folder or GGUF file")
    workload: Name | None = Field(None, description="trace: sets the contexts, the scenario and what is served")
    rate: float | None = Field(None, gt=0, le=1e6, description="requests per second, instead of the trace's own")
    hardware: Name = Field("here", description="device to serve on: here, a catalog's name or a profile's file")
    kv_memory: MemorySize | None = Field(
        None, description="for KV caches, instead of what the device has left: bytes, or a size such as 2GiB"
    )
    slo: dict[str, float] = Field(default_factory=dict, description="ttft_ms, tpot_ms: what goodput counts")
    scenario: Name | None = Field(None, description="deployment scenario, instead of what the trace says")
    columns: dict[TraceField, Name] = Field(default_factory=dict, description="of a trace: a field to its column")
    time_unit: Literal["s", "ms", "us", "ns", "iso", "mdy", "dmy"] | None = Field(
        None, description="of a trace's arrivals, where it is not the format's"
    )
    tokenizer: Name | None = Field(None, description="model that counts a trace of texts, instead of `model`")
    hash_block_size: int | None = Field(
        None,
        ge=1,
        le=1 << 20,
        validation_alias=AliasChoices("hash_block_size", "block_size"),
        description="tokens of a hashed block of a trace's prompts",
    )
    max_bad_rows: float | None = Field(None, ge=0, le=1, description="share of a trace's rows that may be bad; 0.01")
    prompts: Name | None = Field(None, description="JSONL file of prompts")
    tasks: bool | None = Field(
        None,
        description="generated tasks: true as the prompts, false not at all, null to confirm the front beside them",
    )
    objectives: tuple[str, ...] = Field(DEFAULT_OBJECTIVES, min_length=1, max_length=4)
    maximums: dict[str, float] = Field(
        default_factory=dict, validation_alias=AliasChoices("maximums", "max"), description="metric at most"
    )
    minimums: dict[str, float] = Field(
        default_factory=dict, validation_alias=AliasChoices("minimums", "min"), description="metric at least"
    )
    utility: str | None = Field(
        None, description="metric that decides what is recommended; by default what the workload makes of it"
    )
    price_per_hour: float | None = Field(None, gt=0, le=1e9, description="of the device, in any currency")
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

    @model_validator(mode="after")
    def _about_serving(self) -> Self:
        asked = [name for name in self.metrics if name in SERVING_METRICS]
        about = [name for name in ("rate", "kv_memory", "slo", "scenario", "price_per_hour") if getattr(self, name)]
        about += ["utility"] if self.utility in SERVING_METRICS | CONFIRMED_METRICS else []
        about += ["hardware"] if self.hardware != "here" else []
        about += [name for name in READING if getattr(self, name) not in (None, {})]
        if self.workload is None and (asked or about):
            raise ValueError(f"{(asked or about)[0]} is about serving a trace; add a workload")
        unknown = self.slo.keys() - {"ttft_ms", "tpot_ms"}
        if unknown:
            raise ValueError(f"slo knows ttft_ms and tpot_ms, not {min(unknown)!r}")
        if any(not limit > 0 for limit in self.slo.values()):
            raise ValueError("slo limits are positive numbers of milliseconds")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = self.metrics
        unknown = [name for name in (*named, *filter(None, [self.utility])) if name not in METRICS]
        if unknown:
            remedy = nearest(unknown[0], METRICS) or f"choose from {', '.join(METRICS)}"
            raise ValueError(f"unknown metric {unknown[0]!r}; {remedy}")
        if self.utility == "price_per_million_tokens" and self.price_per_hour is None:
            raise ValueError("utility price_per_million_tokens needs the device's price_per_hour")
        late = [name for name in named if name in CONFIRMED_METRICS]
        if late:
            raise ValueError(
                f"{late[0]} is found for the front alone; search by goodput_requests_per_s, and let {late[0]} decide "
                "as the utility"
            )
        if len(set(self.objectives)) != len(self.objectives):
            raise ValueError("an objective is named twice")
        sources = [name for name in ("text", "prompts", "tasks") if getattr(self, name, None)]
        if len(sources) > 1:
            raise ValueError(f"{' and '.join(sources)} cannot be combined; choose one source of prompts")
        generated = sorted(GENERATED_METRICS.intersection([*named, *([self.utility] if self.utility else [])]))
        if generated and not (self.tasks or self.prompts):
            raise ValueError(f"{generated[0]} needs generated answers; add tasks or prompts")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that the search asks about."""
        return (*self.objectives, *self.maximums, *self.minimums)


class TuningRequest(SearchFields):
    """A tuning run on this machine; the fields are the options of ``autokv tune`` and the keys of its YAML file."""

    text: Name | None = Field(None, description="text file, cut into samples")
    space: Name = Field("balanced", description="name of a built-in search space, or a YAML file")
    device: Name = "auto"

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """Validate a mapping of fields; ``where`` (a file name) opens the field in the error.

        Raises:
            RequestError: naming the first field that is wrong, or a bound that no configuration can meet.
        """
        try:
            request = cls.model_validate(values)
        except ValidationError as error:
            path, message, remedy = first_problem(cls, error)
            field = ": ".join(part for part in (where, path) if part) or None
            raise RequestError(message, field=field, remedy=remedy or "see `autokv tune --help`") from None
        request._check_bounds(where)
        return request

    def _check_bounds(self, where: str) -> None:
        """Refuse bounds that no value of their metrics can meet; a stored request is not asked for this again."""
        bounds: tuple[tuple[str, Literal["max", "min"], dict[str, float]], ...] = (
            ("maximums", "max", self.maximums),
            ("minimums", "min", self.minimums),
        )
        for name, kind, limits in bounds:
            for metric, limit in limits.items():
                if not METRICS[metric].reaches(limit, kind):
                    raise RequestError(
                        f"{metric} cannot be {'at most' if kind == 'max' else 'at least'} {limit:g}",
                        field=": ".join(part for part in (where, f"{name}.{metric}") if part),
                        remedy=f"give a bound within its values, which are {METRICS[metric].range}",
                    )
        for metric in self.maximums.keys() & self.minimums.keys():
            if self.minimums[metric] > self.maximums[metric]:
                raise RequestError(
                    f"{metric} cannot be at least {self.minimums[metric]:g} and at most {self.maximums[metric]:g}",
                    field=": ".join(part for part in (where, f"minimums.{metric}") if part),
                    remedy="give a minimum that is not above the maximum",
                )


def read_request_file(path: Path) -> dict[str, Any]:
    """The fields of a request file in YAML or JSON, not yet validated.

    Raises:
        RequestError: the file is missing, too large, neither YAML nor JSON, or not a mapping.
    """
    document = read_document(path, error=RequestError, remedy="see examples/tune.yaml")
    if not isinstance(document, dict):
        raise RequestError("holds no fields", field=str(path), remedy="see examples/tune.yaml")
    return {str(key): value for key, value in document.items()}
