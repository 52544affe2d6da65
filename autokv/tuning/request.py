"""``TuningRequest`` and ``JobSubmission``: everything a tuning run is asked, in one validated object.

The first is of this machine, the second of a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from autokv.config import Strict
from autokv.documents import MemorySize, first_problem, read_document
from autokv.errors import RequestError, nearest
from autokv.evaluation.metrics import CONFIRMED_METRICS, METRICS, SERVING_METRICS

DEFAULT_OBJECTIVES = ("kl_divergence", "kv_bytes_per_token", "attention_us")
GENERATED_METRICS = frozenset({"task_score", "negative_sample_rate", "output_length_ratio"})
"""Metrics that need generated answers, hence prompts or tasks."""

ANY = "any"
"""Of ``run_on``: whatever device a worker has."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")]
Labels = Annotated[dict[Label, Label], Field(max_length=16)]
TraceField = Literal["arrival", "input_tokens", "output_tokens", "session"]
READING = ("columns", "time_unit", "tokenizer", "hash_block_size", "max_bad_rows")
"""Fields that say how the workload's file is read."""


@dataclass(frozen=True)
class Option:
    """How a field is given on the command line, where its name and its type do not say it."""

    option: str | None = None
    metavar: str | None = None
    completes: str | None = None
    """What the shell completes: a name of :mod:`autokv.cli.complete`."""


class SearchFields(Strict):
    """What a tuning run is asked wherever it is asked: on the command line, in a YAML file or over HTTP.

    A field is declared here and nowhere else: options, ``--help``, the API's description and the reference follow.
    """

    model_config = ConfigDict(defer_build=True)

    model: Annotated[Name, Option(completes="model")] = Field(description="Hugging Face id, local folder or GGUF file.")
    workload: Name | None = Field(None, description="Trace of your traffic; default: none, and nothing is served.")
    hardware: Annotated[Name, Option(completes="hardware")] = Field(
        "here", description="Device to serve on: here, a catalog name or a profile's file."
    )
    rate: float | None = Field(None, gt=0, le=1e6, description="Requests per second; default: the trace's own.")
    slo: Annotated[dict[str, float], Option(completes="slo")] = Field(
        {}, description="Latency limits, ttft_ms and tpot_ms; default: five times what an idle server needs."
    )
    kv_memory: MemorySize | None = Field(None, description="Memory for KV caches, such as 2GiB; default: what is left.")
    scenario: Annotated[Name | None, Option(completes="scenario")] = Field(
        None, description="Deployment scenario; default: what the trace looks like."
    )
    columns: Annotated[dict[TraceField, Name], Option("--column", "NAME=COLUMN")] = Field(
        {}, description="Columns of arrival, input_tokens, output_tokens or session in a trace; default: its format's."
    )
    time_unit: Literal["s", "ms", "us", "ns", "iso", "mdy", "dmy"] | None = Field(
        None, description="Unit of a trace's arrivals, or order of its dates; default: its format's."
    )
    tokenizer: Annotated[Name | None, Option(metavar="MODEL")] = Field(
        None, description="Model whose tokenizer counts a trace of texts; default: the model, if one is named."
    )
    hash_block_size: int | None = Field(
        None,
        ge=1,
        le=1 << 20,
        validation_alias=AliasChoices("hash_block_size", "block_size"),
        description="Tokens per hashed block of a trace's prompts; default: by the lengths.",
    )
    max_bad_rows: float | None = Field(None, ge=0, le=1, description="Share of bad rows to leave out; default: 0.01.")
    prompts: Name | None = Field(
        None, description="JSONL file: prompt, optional completion or answers; default: prompts cut from a text."
    )
    tasks: bool | None = Field(
        None, description="Use generated tasks as prompts, or never; default: only to check the front on them."
    )
    space: Annotated[str | dict[str, Any], Option(completes="space")] = Field(
        "balanced", description="Search space: a name, a YAML file or its content; a workload has its own."
    )
    objectives: Annotated[tuple[str, ...], Option("--objective", "METRIC", "metric")] = Field(
        DEFAULT_OBJECTIVES,
        min_length=1,
        max_length=4,
        description="Metrics to optimise; a workload has its own.",
    )
    maximums: Annotated[dict[str, float], Option("--max", "METRIC=VALUE", "bound")] = Field(
        {},
        validation_alias=AliasChoices("maximums", "max"),
        description="Largest values of metrics; default: none.",
    )
    minimums: Annotated[dict[str, float], Option("--min", "METRIC=VALUE", "bound")] = Field(
        {},
        validation_alias=AliasChoices("minimums", "min"),
        description="Smallest values of metrics; default: none.",
    )
    utility: Annotated[str | None, Option(metavar="METRIC", completes="metric")] = Field(
        None, description="Metric that decides; default: sustained_requests_per_s with a workload, else the bytes."
    )
    price_per_hour: float | None = Field(
        None, gt=0, le=1e9, description="Price of the device per hour: shows the price per token; default: none."
    )
    sampler: Literal["tpe", "nsgaii", "gp", "random"] = Field("tpe", description="Optuna's sampler.")
    trials: int = Field(60, ge=1, le=100_000, description="Number of configurations to try.")
    batch_size: int = Field(4, ge=1, le=64, description="Configurations to try and store together.")
    timeout: float | None = Field(
        None, gt=0, le=30 * 86400, description="Seconds to search, at most; default: no limit."
    )
    patience: int | None = Field(None, ge=1, description="Trials without improvement until it stops; default: never.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Random seed.")
    samples: int = Field(4, ge=1, le=4096, description="Number of prompts that steer the search.")
    validation_samples: int = Field(4, ge=1, le=4096, description="Number of prompts that confirm the front.")
    context_tokens: int | None = Field(None, ge=16, description="Context in tokens, without a workload; default: 1024.")
    max_context_tokens: int | None = Field(
        None, ge=16, description="Longest context in tokens; default: what the model, time and memory allow."
    )
    continuation_tokens: int = Field(64, ge=2, le=4096, description="Number of tokens judged after each context.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="Data type of the model.")

    @model_validator(mode="after")
    def _about_serving(self) -> Self:
        asked = [name for name in self.metrics if name in SERVING_METRICS]
        about = [name for name in ("rate", "kv_memory", "slo", "scenario", "price_per_hour") if getattr(self, name)]
        about += ["utility"] if self.utility in SERVING_METRICS | CONFIRMED_METRICS else []
        about += ["hardware"] if self.hardware != "here" else []
        about += [name for name in READING if getattr(self, name) not in (None, {})]
        if self.workload is None and (asked or about):
            instead = ", or choose the device to run on by run_on" if about[:1] == ["hardware"] and not asked else ""
            instead = instead if "run_on" in type(self).model_fields else ""
            raise ValueError(f"{(asked or about)[0]} is about serving a trace; add a workload{instead}")
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

    space: Annotated[Name, Option(completes="space")] = Field(
        "balanced", description="Search space: a name or a YAML file; a workload has its own."
    )
    text: Name | None = Field(None, description="Text file to cut prompts from; default: a novel of AutoKV's own.")
    device: Annotated[Name, Option(completes="device")] = Field(
        "auto", description="Device to run on: auto, cpu, cuda or cuda:N."
    )

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
        bounds: tuple[tuple[str, Literal["max", "min"]], ...] = (("maximums", "max"), ("minimums", "min"))
        for name, kind in bounds:
            for metric, limit in getattr(self, name).items():
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


def _of_estimate(given: object) -> object:
    """``run_on`` was called ``estimate`` when it could only be true: on any device, or false: on that of `hardware`."""
    return (ANY if given else None) if isinstance(given, bool) else given


class JobSubmission(SearchFields):
    """A tuning job of the service: the fields of ``autokv tune``, with ids where that takes paths.

    ``hardware`` is the device to serve on, ``run_on`` the device of the worker that may run the job. Where they differ,
    the costs of serving are predicted. ``hardware: here`` is the device of the worker.
    """

    model_config = ConfigDict(defer_build=False)  # FastAPI takes no other

    model: Name = Field(description="Name of an offered model, or Hugging Face id.")
    workload: Name | None = Field(None, description="Id of an uploaded trace; clients take a file too; default: none.")
    hardware: Annotated[Name, Option(completes="hardware")] = Field(
        "here", description="Device to serve on: here, a catalog name or a profile's id; clients take a file too."
    )
    prompts: Name | None = Field(None, description="Id of uploaded prompts; clients take a file too; default: a text.")
    trials: int = Field(60, ge=1, le=10_000, description="Number of configurations to try.")
    labels: Labels = Field({}, description="Labels that the worker must have, such as zone=a,tier=b; default: none.")
    run_on: Annotated[Name | None, BeforeValidator(_of_estimate), Option(completes="run_on")] = Field(
        None,
        validation_alias=AliasChoices("run_on", "estimate"),
        description="Device that the worker must have: any, or as in `hardware`; default: the device to serve on.",
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
