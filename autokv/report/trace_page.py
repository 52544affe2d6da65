"""The page of a trace: when requests come, how long they are, what they share."""

from __future__ import annotations

from collections.abc import Sequence

from autokv.report import trace_rows
from autokv.report.environment import render
from autokv.report.format import number, span
from autokv.report.lines import Lines, Series
from autokv.report.plot import Figure
from autokv.workload.series import OverLength, OverTime
from autokv.workload.statistics import Reuse, TraceStatistics


def page(
    found: TraceStatistics,
    lengths: OverLength,
    times: OverTime | None,
    *,
    notes: Sequence[str] = (),
    scenario: Sequence[str] = (),
) -> str:
    """The whole page; ``scenario`` says in sentences what a trace is to a model, ``notes`` what its reader saw."""
    return render(
        "trace.html.jinja",
        name=found.name,
        remark="",
        facts=[*trace_rows.facts(found).items(), *(("note", text) for text in notes)],
        scenario=scenario,
        over_time=[] if times is None else _over_time(times),
        columns=trace_rows.LENGTH_COLUMNS,
        lengths=trace_rows.lengths(found),
        length_chart=_length_chart(lengths),
        reuse_chart=None if found.reuse is None else _reuse_chart(found.reuse),
    )


def _over_time(times: OverTime) -> list[Figure]:
    scale, unit = span(float(times.start_s[-1]) + times.step_s)
    start = (times.start_s / scale).tolist()
    means = f"means over {times.step_s:g} s"
    arrivals = Lines((Series("requests/s", start, times.requests_per_s.tolist()),), unit, "requests/s", steps=True)
    tokens = Lines(
        (
            Series("input tokens/s", start, times.input_tokens_per_s.tolist()),
            Series("output tokens/s", start, times.output_tokens_per_s.tolist()),
        ),
        unit,
        "tokens/s",
        steps=True,
    )
    flight = Lines((Series("in flight", start, times.in_flight.tolist()),), unit, "requests in flight", steps=True)
    assumed = f"Assumes a steady decoding rate and no queueing; {means}."
    return [
        arrivals.figure("requests", "Arrivals", f"Requests per second, {means}."),
        tokens.figure("tokens", "Token demand", f"Tokens per second by arrival time, {means}."),
        flight.figure("flight", "Requests in flight", assumed),
    ]


def _length_chart(lengths: OverLength) -> Figure:
    filled = (lengths.input_share + lengths.output_share).nonzero()[0]
    bins = slice(int(filled[0]), int(filled[-1]) + 2)  # and the end of the last one
    lines = Lines(
        tuple(
            Series(name, lengths.tokens[bins].tolist(), (100 * share[bins]).tolist())
            for name, share in (("inputs (%)", lengths.input_share), ("outputs (%)", lengths.output_share))
        ),
        "tokens",
        "% of the requests",
        log=True,
        steps=True,
    )
    caption = "Share of the requests; four bins per doubling of the length."
    return lines.figure("lengths", "Tokens per request", caption)


def _reuse_chart(reuse: Reuse) -> Figure:
    caches, shares = zip(*reuse.caches, strict=True)
    saved = Series("saved (%)", [float(size) for size in caches], [100 * share for share in shares])
    lines = Lines((saved,), "tokens in the cache", "% of the input tokens", log=True)
    caption = (
        f"Input tokens (%) that an LRU prefix cache of this size saves; an unlimited one saves "
        f"{number(100 * reuse.share)}%."
    )
    return lines.figure("reuse", "Prefix reuse by cache size", caption)
