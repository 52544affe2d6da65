"""``autokv simulate``: how a trace is served with a configuration, beside 16 bits and fp8."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from autokv.cli.configured import model_of
from autokv.cli.evaluate import Dtype
from autokv.cli.tables import DatabaseOption, JsonOption
from autokv.cli.trace_options import (
    BadRowsOption,
    ColumnOption,
    HashBlockSizeOption,
    TimeUnitOption,
    TokenizerOption,
    read,
)
from autokv.cli.values import bounds, byte_size
from autokv.config import ConfigurationDocument
from autokv.errors import ModelError, RequestError

if TYPE_CHECKING:
    from rich.console import Console

    from autokv.hardware import HardwareProfile
    from autokv.jobs.judged import Judged
    from autokv.jobs.servers import Servers
    from autokv.models import LoadedModel
    from autokv.models.outline import ModelOutline
    from autokv.serving import SLO, Server, ServingOptions
    from autokv.serving.comparison import Comparison
    from autokv.serving.costs import Basis
    from autokv.workload import WorkloadTrace

Order = Literal["fcfs", "shortest_first"]
Preemption = Literal["recompute", "swap"]
LIMITS = ("ttft_ms", "tpot_ms")


def simulate(
    workload: Annotated[Path, typer.Option(help="Trace of your traffic.")],
    config: Annotated[Path, typer.Option(help="Configuration file, JSON or YAML.")],
    model: Annotated[
        str | None, typer.Option(help="Hugging Face id, local folder or GGUF file; default: the configuration's.")
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(help="Device to serve on: here, a catalog name or a file; default: the search's, or here."),
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Log of your server with token times; fits 16-bit costs to it.")
    ] = None,
    baseline: Annotated[bool, typer.Option(help="Compare with 16 bits and fp8.")] = True,
    slo: Annotated[list[str] | None, typer.Option(help="ttft_ms=VALUE or tpot_ms=VALUE; repeat for both.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second, instead of the trace's own.")] = None,
    rate_scale: Annotated[float | None, typer.Option(help="Multiply the request rate by this factor.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Serve the first N requests.")] = None,
    closed_loop: Annotated[
        bool,
        typer.Option("--closed-loop/--open-loop", help="A turn waits for the answer before it, or does not."),
    ] = True,
    max_rate: Annotated[bool, typer.Option("--max-rate", help="Find the highest rate within the SLO.")] = False,
    order: Annotated[Order | None, typer.Option(help="Order of admission.")] = None,
    preemption: Annotated[Preemption | None, typer.Option(help="How a preempted request resumes.")] = None,
    prefix_caching: Annotated[
        bool, typer.Option("--prefix-caching", help="Share equal prompt prefixes; needs block hashes in the trace.")
    ] = False,
    max_num_batched_tokens: Annotated[int | None, typer.Option(help="Tokens per iteration, at most.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(help="Requests in flight, at most.")] = None,
    block_size: Annotated[int | None, typer.Option(help="Tokens per block of KV memory.")] = None,
    memory_share: Annotated[float, typer.Option(min=0.01, max=1.0, help="Share of the device's memory to use.")] = 0.9,
    kv_memory: Annotated[str | None, typer.Option(help="Memory for KV caches, such as 2GiB.")] = None,
    output_length_ratio: Annotated[
        float | None, typer.Option(min=0.01, max=100, help="Multiply output lengths by this; default: as measured.")
    ] = None,
    refuse_oversized: Annotated[
        bool, typer.Option("--refuse-oversized", help="Refuse requests that never fit, instead of stopping.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Random seed for generated arrivals.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="Data type of the model.")] = "auto",
    device: Annotated[str, typer.Option(help="Device to measure costs on: auto, cpu, cuda or cuda:N.")] = "auto",
    page: Annotated[Path | None, typer.Option(help="File for an HTML page with charts over time.")] = None,
    column: ColumnOption = None,
    time_unit: TimeUnitOption = None,
    tokenizer: TokenizerOption = None,
    hash_block_size: HashBlockSizeOption = None,
    max_bad_rows: BadRowsOption = None,
    database: DatabaseOption = None,
    json_output: JsonOption = False,
) -> None:
    """Simulate how a trace is served with a configuration.

    Its figures are shown beside those of the 16-bit cache and of fp8.
    """
    limits = _slo(slo)
    memory = None if kv_memory is None else byte_size(kv_memory, "--kv-memory")
    if rate is not None and rate_scale is not None:
        raise RequestError("a rate and a scale were given", field="--rate-scale", remedy="give one of them")
    for value, option in ((rate, "--rate"), (rate_scale, "--rate-scale")):
        if value is not None and not 0 < value < float("inf"):
            raise RequestError(f"is {value}", field=option, remedy="give a positive number")
    document = ConfigurationDocument.load(config)
    name = model_of(model, document, config)
    if calibrate is not None and hardware is None:
        raise RequestError("says nothing of the server's device", field="--calibrate", remedy="give --hardware as well")

    from autokv import settings
    from autokv.cli.console import output, plain
    from autokv.evaluation.baselines import FLOAT8, UNCOMPRESSED
    from autokv.hardware import find, probe
    from autokv.jobs.judged import Judged
    from autokv.models.placement import choose_device
    from autokv.report.describe import describe
    from autokv.report.serving_rows import remarks
    from autokv.serving.compare import FLOAT8 as FLOAT8_NAME
    from autokv.serving.compare import FULL, compare
    from autokv.serving.options import usual_options
    from autokv.serving.server_log import read_log
    from autokv.storage import Database
    from autokv.workload.transform import scale_rate

    log = None if calibrate is None else read_log(calibrate)
    judged = Judged.of(document)
    here = probe(choose_device(device))
    wanted_device = hardware or judged.hardware or "here"
    target = here if wanted_device == "here" else find(wanted_device)
    there = judged.device == target.name
    if log is not None:
        max_num_seqs = max_num_seqs or log.in_flight_limit
    # A log's server has scheduling and an idle pace of its own.
    own = there and log is None
    usual = (judged.options if own else None) or usual_options(target.kind)
    options = _options(
        usual,
        order=order,
        preemption=preemption,
        prefix_caching=prefix_caching or usual.prefix_caching,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        block_size=block_size,
    )
    limits = limits or (judged.slo if own or not judged.slo_is_default else None)
    memory = memory or (judged.kv_memory if there else None)
    trace = read(workload, column, time_unit, tokenizer or name, hash_block_size, max_bad_rows)
    again = judged.is_of(trace) and rate_scale is None and rate is None and requests is None
    if again:
        rate = judged.rate
    if rate_scale is not None:
        trace = scale_rate(trace, rate_scale)
    wanted = document.config()
    with Database(database or settings.current().database_url) as store, _progress() as say:
        servers, served, changes = _servers(
            name,
            trace,
            rate=rate,
            requests=requests,
            sample=judged.sample if again else None,
            closed_loop=closed_loop,
            seed=(judged.seed if again else None) or 0 if seed is None else seed,
            dtype=(judged.dtype or dtype) if dtype == "auto" else dtype,
            device=device,
            here=here,
            target=target,
            options=options,
            kv_memory=memory,
            memory_share=memory_share,
            log=log,
            thorough=not there,
            cache=store.kernel_times,
            say=say,
        )
        ratio = output_length_ratio or _measured_ratio(document)
        candidate = servers.server(describe(wanted), wanted, ratio)
        others: list[Server | None] = [None, None]
        if baseline:
            others = [
                None if wanted.digest == other.digest else servers.server(called, other)
                for called, other in ((FULL, UNCOMPRESSED), (FLOAT8_NAME, FLOAT8))
            ]
        say("serving the trace")
        found = compare(
            served,
            candidate,
            *others,
            slo=limits,
            max_rate=max_rate,
            oversized="refuse" if refuse_oversized or again else "error",
        )
    facts = _facts(servers, target, served, options, ratio, candidate.costs.basis)
    as_judged = _as_judged(judged, slo, kv_memory, there=there, anew=found.slo_is_default)
    doubts = () if servers.calibration is None else servers.calibration.notes
    unsaid = block_size is not None and hash_block_size is None and trace.prefixes is not None
    sizes = ("--block-size is that of KV memory; a trace's hashed blocks have --hash-block-size",) if unsaid else ()
    notes = (*_of_reading(trace), *sizes, *changes, *as_judged, *doubts, *servers.notes, *remarks(found))
    if page is not None:
        from autokv.files import write_atomic
        from autokv.report.serving_page import page as serving_page

        write_atomic(page, serving_page(found, facts, notes))
    if json_output:
        from autokv.cli.tables import print_json

        fitted = {} if servers.calibration is None else {"calibration": servers.calibration.to_dict()}
        print_json({**found.to_dict(), **fitted, "facts": facts, "notes": list(notes)})
        return
    screen = output()
    _show(screen, found, facts, notes)
    if page is not None:
        screen.print(f"written to {plain(str(page))}", markup=False, soft_wrap=True)


def _servers(
    name: str,
    trace: WorkloadTrace,
    *,
    rate: float | None,
    requests: int | None,
    sample: int | None,
    closed_loop: bool,
    seed: int,
    device: str,
    **common: Any,  # noqa: ANN401 - of Servers
) -> tuple[Servers, WorkloadTrace, tuple[str, ...]]:
    """Servers of a model, the requests that they serve and what was changed of them.

    For a device elsewhere the model's outline is enough where tables or a log say the costs: no weights are loaded.
    """
    from autokv.jobs.servers import Servers
    from autokv.models import load
    from autokv.models.outline import outline
    from autokv.serving.traffic import traffic

    def make(model: LoadedModel | ModelOutline) -> tuple[Servers, WorkloadTrace, tuple[str, ...]]:
        served, changes = traffic(
            trace,
            context_tokens=model.facts.context_tokens,
            rate=rate,
            requests=requests,
            sample=sample,
            closed_loop=closed_loop,
            seed=seed,
        )
        return Servers(model, served, **common), served, changes

    if common["log"] is not None or common["here"].fingerprint != common["target"].fingerprint:
        try:
            return make(outline(name))
        except ModelError:
            common["say"]("loading the model")
    return make(load(name, dtype=common["dtype"], device=device))


def _as_judged(
    judged: Judged, slo: list[str] | None, kv_memory: str | None, *, there: bool, anew: bool
) -> Iterator[str]:
    """What was taken from the configuration's document, and what was not; ``anew``: the SLO is this device's own."""
    if anew and judged.slo is not None:
        yield f"the search's SLO ({judged.slo}) is not used: it followed from an idle server on {judged.device}"
    taken = [
        words
        for words, is_taken in (
            ("the SLO", judged.slo is not None and not slo and not anew),
            ("the KV memory", there and judged.kv_memory is not None and kv_memory is None),
            ("the scheduling", there and judged.options is not None),
        )
        if is_taken
    ]
    if taken:
        listed = " and ".join([", ".join(taken[:-1]), taken[-1]] if len(taken) > 1 else taken)
        yield f"{listed} are those that the search judged the configuration by, unless an option here says otherwise"


def _slo(given: list[str] | None) -> SLO | None:
    limits = bounds(given, "--slo")
    if limits is None:
        return None
    from autokv.serving import SLO

    unknown = [name for name in limits if name not in LIMITS]
    if unknown:
        raise RequestError(f"{unknown[0]!r} is no limit", field="--slo", remedy=f"use {' or '.join(LIMITS)}")
    return SLO(**limits)


def _options(usual: ServingOptions, **given: Any) -> ServingOptions:  # noqa: ANN401 - of every kind
    """``usual`` with what was given in its place."""
    from dataclasses import replace

    wanted = {name: value for name, value in given.items() if value is not None}
    tokens = wanted.get("max_num_batched_tokens")
    if tokens is not None and "max_num_seqs" not in wanted:
        wanted["max_num_seqs"] = max(1, min(usual.max_num_seqs, tokens))
    try:
        return replace(usual, **wanted)
    except RequestError as error:
        option = f"--{(error.field or '').replace('_', '-')}"
        raise RequestError(error.message, field=option, remedy=error.remedy) from None


def _measured_ratio(document: ConfigurationDocument) -> float:
    """How much longer the configuration's outputs were measured to be; 1 where they were not."""
    found = (document.validated or document.measured or {}).get("output_length_ratio")
    mean = found.get("mean") if isinstance(found, dict) else None
    return float(mean) if isinstance(mean, int | float) and 0 < mean < float("inf") else 1.0


def _of_reading(trace: WorkloadTrace) -> Iterator[str]:
    """What the trace's reader has to say."""
    if trace.rejected.count:
        yield f"{trace.rejected.count:,} bad rows are left out, the first because of: {trace.rejected.reason}"
    yield from trace.notes


@contextmanager
def _progress() -> Iterator[Any]:
    """A line on standard error that says what takes its time, where someone is looking."""
    from autokv.cli.console import output, plain

    screen = output(stderr=True)
    with screen.status("measuring") as status:
        yield lambda line: status.update(plain(line))


def _facts(
    servers: Servers,
    target: HardwareProfile,
    trace: WorkloadTrace,
    options: ServingOptions,
    ratio: float,
    basis: Basis,
) -> dict[str, str]:
    """What was served, where and how."""
    from autokv.serving.verdict import BASES, size_text

    rate = trace.summary().requests_per_s
    policy = "first come first served" if options.order == "fcfs" else "shortest first"
    return {
        "model": f"{servers.model} in {servers.dtype}",
        "device": target.name + (f" ({BASES[basis]})" if BASES[basis] else ""),
        "KV memory": f"{size_text(servers.capacity_bytes)} in blocks of {options.block_size} tokens",
        "trace": f"{trace.name}, {len(trace):,} requests" + ("" if rate is None else f" at {rate:.3g} a second"),
        "server": f"{policy}, {options.max_num_batched_tokens:,} tokens an iteration, "
        f"{options.max_num_seqs:,} requests in flight, preemption by {options.preemption}"
        + (", prefix caching" if options.prefix_caching else ""),
        **({} if ratio == 1 else {"outputs": f"{ratio:.3g} times as long as the trace's"}),
    }


def _show(screen: Console, found: Comparison, facts: dict[str, str], notes: tuple[str, ...]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from autokv.cli.console import plain, print_table
    from autokv.cli.tables import print_facts
    from autokv.report.serving_rows import rows, sentence

    print_facts(facts)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("", no_wrap=True)
    for run in found.runs:
        table.add_column(Text(plain(run.name)), justify="right", overflow="fold")
    for row in rows(found.to_dict()):
        table.add_row(row.title, *row.texts)
    screen.print()
    print_table(screen, table)
    screen.print()
    screen.print(plain(sentence(found.verdict)), style="bold", markup=False)
    for line in notes:
        screen.print(f"- {plain(sentence(line))}", markup=False)
