"""What a search is asked, as options: of ``autokv tune``, and of ``autokv remote submit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from autokv.cli import complete
from autokv.cli.trace_options import BadRowsOption, ColumnOption, HashBlockSizeOption, TimeUnitOption, column_map
from autokv.cli.values import bounds, byte_size

Rate = Annotated[float | None, typer.Option(help="Requests per second, instead of the trace's own.")]
Slo = Annotated[
    list[str] | None, typer.Option(help="ttft_ms=VALUE or tpot_ms=VALUE; repeat for both.", autocompletion=complete.slo)
]
KvMemory = Annotated[str | None, typer.Option(help="Memory for KV caches, such as 2GiB.")]
Scenario = Annotated[
    str | None,
    typer.Option(help="Deployment scenario; default: what the trace looks like.", autocompletion=complete.scenario),
]
Column = ColumnOption
TimeUnit = TimeUnitOption
Tokenizer = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Model whose tokenizer counts a trace of texts; default: --model.")
]
HashBlockSize = HashBlockSizeOption
BadRows = BadRowsOption
Prompts = Annotated[str | None, typer.Option(help="JSONL file: prompt, optional completion or answers.")]
Tasks = Annotated[bool | None, typer.Option(help="Use generated tasks as prompts, or do not check tasks at all.")]
Space = Annotated[str | None, typer.Option(help="Search space: a name or a YAML file.", autocompletion=complete.space)]
Objective = Annotated[
    list[str] | None, typer.Option(help="Metric to optimise; repeat for more.", autocompletion=complete.metric)
]
Maximum = Annotated[
    list[str] | None,
    typer.Option("--max", help="METRIC=VALUE: at most; repeat for more.", autocompletion=complete.bound),
]
Minimum = Annotated[
    list[str] | None,
    typer.Option("--min", help="METRIC=VALUE: at least; repeat for more.", autocompletion=complete.bound),
]
Utility = Annotated[str | None, typer.Option(help="Metric that decides what is recommended.")]
PricePerHour = Annotated[float | None, typer.Option(help="Price of the device per hour: shows the price per token.")]
Sampler = Annotated[str | None, typer.Option(help="tpe, nsgaii, gp or random.", autocompletion=complete.sampler)]
Trials = Annotated[int | None, typer.Option(help="Number of configurations to try.")]
BatchSize = Annotated[int | None, typer.Option(help="Configurations to try at once.")]
Timeout = Annotated[float | None, typer.Option(help="Stop the search after this many seconds.")]
Patience = Annotated[int | None, typer.Option(help="Stop after this many trials without improvement.")]
Seed = Annotated[int | None, typer.Option(help="Random seed.")]
Samples = Annotated[int | None, typer.Option(help="Number of calibration prompts.")]
ValidationSamples = Annotated[int | None, typer.Option(help="Number of validation prompts.")]
ContextTokens = Annotated[int | None, typer.Option(help="Context length in tokens, without a workload.")]
MaxContextTokens = Annotated[int | None, typer.Option(help="Longest context in tokens.")]
ContinuationTokens = Annotated[int | None, typer.Option(help="Number of tokens judged after each context.")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.", autocompletion=complete.dtype)]


def fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that were given as options, by the parameters' names.

    Raises:
        RequestError: a bound or a size is malformed.
    """
    memory = options["kv_memory"]
    fields = {
        **options,
        "slo": bounds(options["slo"], "--slo"),
        "columns": column_map(options["column"]) if options["column"] else None,
        "kv_memory": None if memory is None else byte_size(memory, "--kv-memory"),
        "objectives": options["objective"] or None,
        "maximums": bounds(options["maximum"], "--max"),
        "minimums": bounds(options["minimum"], "--min"),
    }
    renamed = {"column", "objective", "maximum", "minimum"}
    return {name: value for name, value in fields.items() if value is not None and name not in renamed}
