"""The page of a trace: when requests come, how long they are, what they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autokv.report import trace_rows
from autokv.report.document import document, place
from autokv.report.html import Markup, join, tag
from autokv.report.parts import Figure, layout, plain_axis, short, span
from autokv.workload.series import OverLength, OverTime
from autokv.workload.statistics import Reuse, TraceStatistics

Values = NDArray[np.float64]
INPUT, OUTPUT = "var(--front)", "var(--pick)"


def page(
    found: TraceStatistics,
    lengths: OverLength,
    times: OverTime | None,
    *,
    notes: Sequence[str] = (),
    scenario: Sequence[str] = (),
) -> str:
    """The whole page; ``scenario`` says in sentences what a trace is to a model, ``notes`` what its reader saw."""
    figures: dict[str, Figure] = {}
    body = join(
        tag("header", tag("p", join("AutoKV trace · ", tag("b", found.name)), class_="site")),
        tag("section", join(tag("h1", found.name), _facts(found, notes))),
        _section("Scenario", [tag("p", sentence) for sentence in scenario]),
        _section("Over time", [] if times is None else _over_time(times, figures)),
        _section("Lengths", [_lengths(found), _length_chart(lengths, figures)]),
        _section("Shared prefixes", [] if found.reuse is None else [_reuse_chart(found.reuse, figures)]),
    )
    return document(f"AutoKV: {found.name}", body, figures)


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
    return tag("div", table, class_="wide")


def _over_time(times: OverTime, figures: dict[str, Figure]) -> list[Markup]:
    scale, unit = span(float(times.start_s[-1]) + times.step_s)
    start = times.start_s / scale
    means = f"means over {times.step_s:g} s"

    def chart(name: str, lines: Sequence[tuple[str, Values, str]]) -> Figure:
        return _chart(unit, name, [_line(start, values, one, unit, color) for one, values, color in lines])

    return [
        place(
            figures,
            "requests",
            chart("requests/s", [("requests/s", times.requests_per_s, INPUT)]),
            "Arrivals",
            f"Requests per second, {means}.",
        ),
        place(
            figures,
            "tokens",
            chart(
                "tokens/s",
                [
                    ("input tokens/s", times.input_tokens_per_s, INPUT),
                    ("output tokens/s", times.output_tokens_per_s, OUTPUT),
                ],
            ),
            "Tokens asked for",
            f"By the time of arrival, {means}: inputs blue, outputs orange.",
        ),
        place(
            figures,
            "flight",
            chart("requests in flight", [("in flight", times.in_flight, INPUT)]),
            "Requests in flight",
            f"If each answers at a steady rate and nobody waits, {means}.",
        ),
    ]


def _length_chart(lengths: OverLength, figures: dict[str, Figure]) -> Markup:
    lines = [
        _line(lengths.tokens, 100 * share, f"% of {name}", "tokens", color)
        for name, share, color in (("inputs", lengths.input_share, INPUT), ("outputs", lengths.output_share, OUTPUT))
    ]
    figure = _chart("tokens", "% of the requests", lines)
    figure["layout"]["xaxis"]["type"] = "log"
    caption = "Four bins for each doubling of the length: inputs blue, outputs orange."
    return place(figures, "lengths", figure, "Tokens per request", caption)


def _reuse_chart(reuse: Reuse, figures: dict[str, Figure]) -> Markup:
    tokens, shares = np.array(reuse.caches, dtype=np.float64).reshape(-1, 2).T
    figure = _chart(
        "tokens that the cache holds",
        "% of the input tokens",
        [{**_line(tokens, 100 * shares, "% spared", "tokens", INPUT), "mode": "lines+markers"}],
    )
    figure["layout"]["xaxis"]["type"] = "log"
    figure["data"][0]["line"]["shape"] = "linear"
    caption = (
        f"Input tokens that a prefix cache spares which forgets what was used longest ago; one that forgets nothing "
        f"spares {reuse.share:.1%}."
    )
    return place(figures, "reuse", figure, "Reuse by size of the cache", caption)


def _line(x: Values, y: Values, name: str, unit: str, color: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": short(x.tolist()),
        "y": short(y.tolist()),
        "line": {"color": color, "width": 1.5, "shape": "hv"},
        "hovertemplate": f"%{{y:,.4~g}} {name}<br>%{{x:,.4~g}} {unit}<extra></extra>",
    }


def _chart(x: str, y: str, lines: Sequence[Figure]) -> Figure:
    return {
        "data": list(lines),
        "layout": {
            **layout(250, left=64),
            "xaxis": {**plain_axis(x), "showgrid": False},
            "yaxis": {**plain_axis(y), "rangemode": "tozero", "nticks": 5},
        },
    }
