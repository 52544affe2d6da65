"""``autokv trace``: look at workload traces, convert them, cut and rescale them, make them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from autokv.cli.options import Given, Renamed, byte_size, check_output, read_trace, takes
from autokv.cli.tables import JsonOption, print_facts, print_json, print_table
from autokv.errors import RequestError
from autokv.tuning.request import READING, SearchFields

if TYPE_CHECKING:
    from autokv.models import ModelFacts
    from autokv.workload import Scenario, TraceStatistics, WorkloadTrace
    from autokv.workload.synthesis import ArrivalProcess, Lengths

app = typer.Typer(no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="Trace in any known format.", metavar="FILE")]
OutputArgument = Annotated[Path, typer.Argument(help="File to write.", metavar="OUT")]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="parquet, azure or mooncake; default: by OUT's suffix.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Random seed.")]


@app.command(cls=Renamed)
@takes(SearchFields, *READING)
def inspect(
    *,
    file: FileArgument,
    model: Annotated[str | None, typer.Option(help="Model to find the deployment scenario for.")] = None,
    hardware: Annotated[
        str | None, typer.Option(help="Device for --model: a name or a file; default: this machine.")
    ] = None,
    kv_memory: Annotated[
        str | None, typer.Option(help="KV memory for --model, such as 2GiB; default: the device's.")
    ] = None,
    tokens_per_second: Annotated[
        float, typer.Option(min=1e-3, help="Assumed output tokens per second of one request.")
    ] = 20.0,
    page: Annotated[Path | None, typer.Option(help="File for an HTML page with charts.")] = None,
    given: Given,
    json_output: JsonOption = False,
) -> None:
    """Show a trace's lengths, rates and reuse of prefixes.

    Also its bursts, its requests in flight, and its conversations.
    """
    from autokv import models
    from autokv.report import trace_rows
    from autokv.workload import statistics_of

    for option, value in (("--hardware", hardware), ("--kv-memory", kv_memory)):
        if value is not None and model is None:
            raise RequestError("says nothing without a model", field=option, remedy="add --model")
    memory = None if kv_memory is None else byte_size(kv_memory, "--kv-memory")
    trace = read_trace(file, given)
    found = statistics_of(trace, tokens_per_second)
    known = None if model is None else models.inspect(model)
    scenario = None if known is None else _scenario(trace, known, hardware, memory)
    cached = None if known is None or memory is None else _cached(trace, known, memory)
    if page is not None:
        _write_page(page, trace, found, tokens_per_second, scenario)
    if json_output:
        print_json({**found.to_dict(), "notes": trace.notes, "scenario": scenario, "cached": cached})
        return
    facts = trace_rows.facts(found)
    if cached is not None:
        tokens, share = cached
        facts[f"reuse in {kv_memory}"] = f"{share:.1%} of the input tokens (of a cache of {tokens:,} tokens in 16 bits)"
    print_facts({"trace": found.name, **facts, "notes": "; ".join(trace.notes)})
    typer.echo()
    print_table(("", *trace_rows.LENGTH_COLUMNS), trace_rows.lengths(found), shrink="", empty="")
    if scenario is not None:
        typer.echo()
        reasons = [sentence.split(": ", 1) for sentence in scenario.why]
        print_table(("scenario", "because"), reasons, shrink="because", empty="")
        print_facts({"space": scenario.space, "objectives": ", ".join(scenario.objectives)})
    if page is not None:
        typer.echo(f"\nwritten to {page}")


@app.command(cls=Renamed)
@takes(SearchFields, *READING)
def convert(
    *,
    file: FileArgument,
    out: OutputArgument,
    format: FormatOption = None,
    force: ForceOption = False,
    given: Given,
) -> None:
    """Write a trace in another format.

    .parquet keeps everything, .csv is Azure's, .jsonl is Mooncake's.
    """
    check_output(out, force, file)
    _write(read_trace(file, given), out, format)


@app.command("slice", cls=Renamed)
@takes(SearchFields, *READING)
def slice_trace(
    *,
    file: FileArgument,
    out: OutputArgument,
    start: Annotated[
        float | None, typer.Option(help="Drop requests before this second, counted from the first arrival.")
    ] = None,
    end: Annotated[
        float | None, typer.Option(help="Drop requests after this second, counted from the first arrival.")
    ] = None,
    max_input_tokens: Annotated[int | None, typer.Option(min=1, help="Drop requests with longer prompts.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=1, help="Drop requests with longer answers.")] = None,
    sample: Annotated[float | None, typer.Option(help="Share of the requests (or whole sessions) to keep.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Keep the first N requests.")] = None,
    scale_lengths: Annotated[float | None, typer.Option(help="Multiply lengths by this factor.")] = None,
    rate_scale: Annotated[float | None, typer.Option(help="Multiply the request rate by this factor.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests per second; adds Poisson arrivals if there are none.")
    ] = None,
    seed: SeedOption = 0,
    format: FormatOption = None,
    force: ForceOption = False,
    given: Given,
) -> None:
    """Write a part of a trace, or change its rate and lengths.

    Options apply in the order shown here.
    """
    from autokv.workload import transform

    check_output(out, force, file)
    if rate is not None and rate_scale is not None:
        raise RequestError("cannot be combined with --rate-scale", field="--rate", remedy="give one of them")
    trace = read_trace(file, given)
    if start is not None or end is not None:
        trace = transform.window(trace, start or 0.0, float("inf") if end is None else end)
    if max_input_tokens is not None or max_output_tokens is not None:
        trace = transform.at_most(trace, input_tokens=max_input_tokens, output_tokens=max_output_tokens)
    if sample is not None:
        trace = transform.sample(trace, sample, seed)
    if requests is not None:
        trace = transform.head(trace, requests)
    if scale_lengths is not None:
        trace = transform.scale_lengths(trace, scale_lengths)
    if rate_scale is not None:
        trace = transform.scale_rate(trace, rate_scale)
    if rate is not None:
        trace = transform.with_rate(trace, rate, seed)
    _write(trace, out, format)


@app.command(cls=Renamed)
@takes(SearchFields, *READING)
def synthesize(
    *,
    out: OutputArgument,
    requests: Annotated[int, typer.Option(min=1, help="Number of requests.")],
    rate: Annotated[float | None, typer.Option(help="Requests per second; default: as in --like.")] = None,
    arrivals: Annotated[
        Literal["poisson", "gamma", "diurnal"] | None,
        typer.Option(help="Arrival process; default: poisson, or as in --like."),
    ] = None,
    cv: Annotated[float | None, typer.Option(help="gamma: coefficient of variation of the gaps.")] = None,
    period: Annotated[float | None, typer.Option(help="diurnal: seconds between peaks; default: 86,400.")] = None,
    amplitude: Annotated[
        float | None, typer.Option(help="diurnal: swing as a share of the mean rate; default: 0.5.")
    ] = None,
    input_tokens: Annotated[
        str | None, typer.Option(metavar="MEDIAN,P95", help="Log-normal prompts, by median and 95th percentile.")
    ] = None,
    output_tokens: Annotated[
        str | None, typer.Option(metavar="MEDIAN,P95", help="Log-normal answers, by median and 95th percentile.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw requests and gaps from this trace instead.")
    ] = None,
    seed: SeedOption = 0,
    format: FormatOption = None,
    force: ForceOption = False,
    given: Given,
) -> None:
    """Make a trace from distributions or from a real one.

    The same options and seed make the same trace.
    """
    from autokv.workload import generate, resample, transform

    check_output(out, force, like)
    if like is not None:
        if input_tokens or output_tokens:
            raise RequestError("takes its lengths from the trace", field="--like", remedy="leave the tokens out")
        real = read_trace(like, given)
        mean = rate or real.summary().requests_per_s
        process = _arrivals(arrivals, mean, cv, period, amplitude) if arrivals or not real.timed else None
        trace = resample(real, requests=requests, seed=seed, arrivals=process)
        if process is None and rate is not None:
            trace = transform.with_rate(trace, rate)
    else:
        trace = generate(
            requests=requests,
            arrivals=_arrivals(arrivals or "poisson", rate, cv, period, amplitude),
            input_tokens=_lengths(input_tokens, "--input-tokens"),
            output_tokens=_lengths(output_tokens, "--output-tokens"),
            seed=seed,
        )
    _write(trace, out, format)


def _scenario(trace: WorkloadTrace, facts: ModelFacts, hardware: str | None, kv_memory: float | None) -> Scenario:
    from autokv.workload import classify
    from autokv.workload.scenarios import MEMORY_SHARE

    weights = 2 * facts.parameters
    return classify(
        trace,
        context_tokens=facts.context_tokens,
        kv_bytes_per_token=facts.kv_bytes_per_token,
        weights_bytes=weights,
        memory_bytes=_memory_bytes(hardware) if kv_memory is None else (weights + kv_memory) / MEMORY_SHARE,
    )


def _cached(trace: WorkloadTrace, facts: ModelFacts, kv_memory: float) -> tuple[int, float] | None:
    """Tokens that fit into the memory in 16 bits, and the share of the prompts' tokens that such a prefix cache spares;
    ``None`` where the trace has no block hashes."""
    from autokv.workload.reuse import reuse_at

    if trace.prefixes is None:
        return None
    tokens = int(kv_memory // max(1, facts.kv_bytes_per_token))
    return tokens, reuse_at(trace, [tokens])[0]


def _memory_bytes(hardware: str | None) -> int:
    if hardware is not None:
        from autokv.hardware import find

        return find(hardware).memory_bytes
    from autokv.hardware import measuring
    from autokv.models.placement import choose_device

    device = choose_device("auto")
    return (measuring.cuda(device) if device.type == "cuda" else measuring.cpu()).memory_bytes


def _write_page(
    path: Path, trace: WorkloadTrace, found: TraceStatistics, tokens_per_second: float, scenario: Scenario | None
) -> None:
    from autokv.files import write_atomic
    from autokv.report import trace_page
    from autokv.workload.series import over_length, over_time

    text = trace_page.page(
        found,
        over_length(trace),
        over_time(trace, tokens_per_second),
        notes=trace.notes,
        scenario=() if scenario is None else scenario.why,
    )
    write_atomic(path, text)


def _write(trace: WorkloadTrace, out: Path, chosen: str | None) -> None:
    from autokv.report.format import duration
    from autokv.workload import write_trace

    left_out = write_trace(trace, out, chosen)
    rate = trace.summary().requests_per_s
    when = "without arrivals" if rate is None else f"over {duration(trace.arrival_s[-1])}, {rate:.3g} requests/s"
    bad = f"; {trace.rejected.count:,} bad rows were left out" if trace.rejected.count else ""
    typer.echo(f"{len(trace):,} requests {when}{bad}: written to {out}")
    if left_out:
        typer.echo(f"the format has no place for {' and '.join(left_out)}", err=True)


def _arrivals(
    name: str | None, rate: float | None, cv: float | None, period: float | None, amplitude: float | None
) -> ArrivalProcess:
    from autokv.workload.synthesis import Diurnal, Gamma, Poisson

    if rate is None:
        raise RequestError("is missing", field="--rate", remedy="say how many requests come per second")
    asked = {"--cv": (cv, "gamma"), "--period": (period, "diurnal"), "--amplitude": (amplitude, "diurnal")}
    for option, (value, process) in asked.items():
        if value is not None and name != process:
            raise RequestError(f"is of {process} arrivals", field=option, remedy=f"add --arrivals {process}")
    if name == "gamma":
        if cv is None:
            raise RequestError("is missing", field="--cv", remedy="say how bursty arrivals are; Poisson has 1")
        return Gamma(rate, cv)
    if name == "diurnal":
        return Diurnal(rate, 86400.0 if period is None else period, 0.5 if amplitude is None else amplitude)
    return Poisson(rate)


def _lengths(text: str | None, option: str) -> Lengths:
    from autokv.workload.synthesis import Lengths

    if text is None:
        raise RequestError("is missing", field=option, remedy="give MEDIAN,P95, or --like a real trace")
    try:
        median, p95 = (float(part) for part in text.split(","))
    except ValueError:
        raise RequestError(f"{text!r} is not MEDIAN,P95", field=option, remedy="such as 700,2000") from None
    return Lengths(median, p95)
