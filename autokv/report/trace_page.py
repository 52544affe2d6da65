"""The page of a trace: when requests come, how long they are, what they share."""

from __future__ import annotations

from collections.abc import Sequence

from autokv.report import trace_rows
from autokv.report.document import document, figure, wide
from autokv.report.format import number, span
from autokv.report.html import Markup, join, tag
from autokv.report.lines import Lines, Series
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
    body = join(
        tag("header", tag("p", join("AutoKV trace · ", tag("b", found.name)), class_="site")),
        tag("section", join(tag("h1", found.name), _facts(found, notes))),
        _section("Scenario", [tag("p", sentence) for sentence in scenario]),
        _section("Over time", [] if times is None else [_over_time(times)]),
        _section("Lengths", [_lengths(found), _length_chart(lengths)]),
        _section("Shared prefixes", [] if found.reuse is None else [_reuse_chart(found.reuse)]),
    )
    return document(f"AutoKV: {found.name}", body)


def _section(heading: str, parts: Sequence[Markup]) -> Markup:
    return tag("section", join(tag("h2", heading), *parts)) if parts else Markup("")


def _facts(found: TraceStatistics, notes: Sequence[str]) -> Markup:
    rows = [*trace_rows.facts(found).items(), *(("note", text) for text in notes)]
    return tag("dl", join(*(join(tag("dt", name), tag("dd", value)) for name, value in rows)))


def _lengths(found: TraceStatistics) -> Markup:
    head = join(tag("th", ""), *(tag("th", name, class_="number") for name in trace_rows.LENGTH_COLUMNS))
    rows = [
        tag("tr", join(tag("th", name, scope="row"), *(tag("td", text, class_="number") for text in texts)))
        for name, *texts in trace_rows.lengths(found)
    ]
    table = tag("table", join(tag("thead", tag("tr", head)), tag("tbody", join(*rows))))
    return wide(table, "Tokens per request")


def _over_time(times: OverTime) -> Markup:
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
    drawn = (
        figure("requests", "Arrivals", f"Requests per second, {means}.", arrivals.draw),
        figure(
            "tokens",
            "Token demand",
            join(tokens.legend, f"Tokens per second by arrival time, {means}."),
            tokens.draw,
        ),
        figure(
            "flight", "Requests in flight", f"Assumes a steady decoding rate and no queueing; {means}.", flight.draw
        ),
    )
    return tag("div", join(*drawn), class_="pair")


def _length_chart(lengths: OverLength) -> Markup:
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
    caption = join(lines.legend, "Share of the requests; four bins per doubling of the length.")
    return tag("div", figure("lengths", "Tokens per request", caption, lines.draw), class_="pair")


def _reuse_chart(reuse: Reuse) -> Markup:
    caches, shares = zip(*reuse.caches, strict=True)
    saved = Series("saved (%)", [float(size) for size in caches], [100 * share for share in shares])
    lines = Lines((saved,), "tokens in the cache", "% of the input tokens", log=True)
    caption = (
        f"Input tokens (%) that an LRU prefix cache of this size saves; an unlimited one saves "
        f"{number(100 * reuse.share)}%."
    )
    return tag("div", figure("reuse", "Prefix reuse by cache size", caption, lines.draw), class_="pair")
