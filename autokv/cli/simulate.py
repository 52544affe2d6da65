"""``autokv simulate``: how a trace is served with a configuration, beside 16 bits and fp8."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from autokv.cli.config import model_of
from autokv.cli.options import Given, bounds, byte_size, read_trace, takes
from autokv.cli.tables import DatabaseOption, DtypeOption, JsonOption, print_facts, print_json
from autokv.config import ConfigurationDocument
from autokv.errors import RequestError
from autokv.tuning.request import READING, SearchFields

if TYPE_CHECKING:
    from rich.console import Console

    from autokv.runs.simulation import Simulated
    from autokv.serving import SLO, ServingOptions
    from autokv.serving.comparison import Comparison

Order = Literal["fcfs", "shortest_first"]
Preemption = Literal["recompute", "swap"]
LIMITS = ("ttft_ms", "tpot_ms")


@takes(SearchFields, *READING)
def simulate(
    *,
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
    dtype: DtypeOption = "auto",
    device: Annotated[str, typer.Option(help="Device to measure costs on: auto, cpu, cuda or cuda:N.")] = "auto",
    page: Annotated[Path | None, typer.Option(help="File for an HTML page with charts over time.")] = None,
    given: Given,
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
    from autokv.report.serving_rows import remarks
    from autokv.runs.simulation import Simulation, SimulationRequest
    from autokv.serving.server_log import read_log
    from autokv.storage import Database

    log = None if calibrate is None else read_log(calibrate)
    if log is not None:
        max_num_seqs = max_num_seqs or log.in_flight_limit
    simulation = Simulation(
        SimulationRequest(
            document,
            name,
            hardware=hardware,
            log=log,
            baseline=baseline,
            slo=limits,
            rate=rate,
            rate_scale=rate_scale,
            requests=requests,
            closed_loop=closed_loop,
            max_rate=max_rate,
            options=partial(
                _options,
                order=order,
                preemption=preemption,
                prefix_caching=prefix_caching or None,
                max_num_batched_tokens=max_num_batched_tokens,
                max_num_seqs=max_num_seqs,
                block_size=block_size,
            ),
            memory_share=memory_share,
            kv_memory=memory,
            output_length_ratio=output_length_ratio,
            refuse_oversized=refuse_oversized,
            seed=seed,
            dtype=dtype,
            device=device,
        )
    )
    trace = read_trace(workload, {"tokenizer": name, **given})
    with Database(database or settings.current().database_url) as store, _progress() as say:
        simulated = simulation.run(trace, store.kernel_times, say)
    found, calibration = simulated.comparison, simulated.engines.calibration
    facts = _facts(simulated)
    unsaid = block_size is not None and "hash_block_size" not in given and trace.prefixes is not None
    sizes = ("--block-size is that of KV memory; a trace's hashed blocks have --hash-block-size",) if unsaid else ()
    measured = (
        (f"simulated from times that were measured on {simulated.target.name}",) if found.basis == "measured" else ()
    )
    notes = (*sizes, *simulated.notes, *measured, *remarks(found))
    if page is not None:
        from autokv.files import write_atomic
        from autokv.report.serving_page import page as serving_page

        write_atomic(page, serving_page(found, facts, notes))
    if json_output:
        fitted = {} if calibration is None else {"calibration": calibration.to_dict()}
        print_json({**found.to_dict(), **fitted, "facts": facts, "notes": list(notes)})
        return
    screen = output()
    _show(screen, found, facts, notes)
    if page is not None:
        screen.print(f"written to {plain(str(page))}", markup=False, soft_wrap=True)


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


@contextmanager
def _progress() -> Iterator[Any]:
    """A line on standard error that says what takes its time, where someone is looking."""
    from autokv.cli.console import output, plain

    screen = output(stderr=True)
    with screen.status("measuring") as status:
        yield lambda line: status.update(plain(line))


def _facts(simulated: Simulated) -> dict[str, str]:
    """What was served, where and how."""
    from autokv.serving.verdict import BASES, size_text

    engines, trace, options, ratio = simulated.engines, simulated.trace, simulated.options, simulated.ratio
    basis, rate = BASES[simulated.comparison.basis], trace.summary().requests_per_s
    policy = "first come first served" if options.order == "fcfs" else "shortest first"
    return {
        "model": f"{engines.model} in {engines.dtype}",
        "device": simulated.target.name + (f" ({basis})" if basis else ""),
        "KV memory": f"{size_text(engines.capacity_bytes)} in blocks of {options.block_size} tokens",
        "trace": f"{trace.name}, {len(trace):,} requests" + ("" if rate is None else f", {rate:.3g} requests/s"),
        "server": f"{policy}, at most {options.max_num_batched_tokens:,} tokens per iteration and "
        f"{options.max_num_seqs:,} requests in flight, preemption by {options.preemption}"
        + (", prefix caching" if options.prefix_caching else ""),
        **({} if ratio == 1 else {"outputs": f"{ratio:.3g} times as long as the trace's"}),
    }


def _show(screen: Console, found: Comparison, facts: dict[str, str], notes: tuple[str, ...]) -> None:
    from rich.text import Text

    from autokv.cli.console import new_table, plain, print_table
    from autokv.report.format import sentence
    from autokv.report.serving_rows import rows

    print_facts(facts)
    table = new_table()
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
