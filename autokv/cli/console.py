"""The terminal: tables that fit 80 columns, and the progress of a search.

Names, paths and reasons come from the user or from files; they are shown as plain text, never read as markup, and
control characters are replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement as Measured
from rich.table import Column, Table
from rich.text import Text

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.naming import aim, unit
from autokv.report import view
from autokv.report.describe import describe
from autokv.report.format import heading, number
from autokv.tuning.trial import FrontPoint, TuningResult

WIDTH = 80
WIDEST = 10_000
LONGEST_WORD = 20
SHORT = {
    "kl_divergence": "KL",
    "top1_agreement": "top-1",
    "nll_delta": "NLL change",
    "task_score": "task",
    "negative_sample_rate": "negative",
    "output_length_ratio": "length",
    "kv_bytes_per_token": "KV cache",
    "compression_ratio": "smaller",
    view.RATIO: "attention",
    "attention_us": "attention",
    "attention_baseline_us": "16-bit",
    "attention_fp8_us": "fp8",
    "compress_us": "compress",
    "ttft_ms": "TTFT",
    "ttft_p95_ms": "p95 TTFT",
    "tpot_ms": "TPOT",
    "tpot_p95_ms": "p95 TPOT",
    "throughput_tokens_per_s": "output",
    "goodput_requests_per_s": "goodput",
    "concurrent_requests": "at once",
    "sustained_requests_per_s": "sustained",
    "price_per_million_tokens": "price",
}
SHORT_UNITS = {
    "throughput_tokens_per_s": "tok/s",
    "goodput_requests_per_s": "req/s",
    "concurrent_requests": "",
    "sustained_requests_per_s": "req/s",
    "price_per_million_tokens": "/M tokens",
}
MARKS = {"recommended": "★", "fastest": "fast", "smallest": "small", "knee": "knee"}
MEASURED = (view.BYTES, "compression_ratio", "kl_divergence", "top1_agreement", "task_score", view.RATIO)
"""Columns of an evaluation, as far as they were measured."""
REFERENCE = "attention: decode time ÷ PyTorch's fastest 16-bit attention, timed in turn; the 16-bit cache is 1×"


def new_table(*columns: str) -> Table:
    """A table without a frame; the first column says what a row is about, the others hold figures."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name in columns[:1]:
        table.add_column(name, overflow="fold")
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def output(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or 80 columns where there is none."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=WIDTH)


def print_table(console: Console, table: Table) -> None:
    """Print a table within the width of ``console``; one that would be cut or break words is wider.

    Columns that wrap do so between words; longer ones, such as paths, are broken. They share the room that there is.
    """
    wrapping: list[tuple[Column, int, int]] = []
    for column in table.columns:
        texts = [str(cell) for cell in (column.header, *column.cells)]
        longest = max((len(line) for text in texts for line in text.splitlines()), default=0)
        if column.no_wrap:
            column.min_width = longest
        else:
            words = [len(word) for text in texts for word in text.split()]
            column.min_width = max((length for length in words if length <= LONGEST_WORD), default=0)
            wrapping += [(column, max(words, default=0), longest)] if column.width is None else []
    usual = console.width
    least = Measured.get(console, console.options.update(max_width=WIDEST), table).minimum
    console.width = max(usual, least)
    spare, wanted = console.width - least, sum(longest - word for _, word, longest in wrapping)
    if 0 <= spare < wanted:
        for column, word, longest in wrapping:
            column.width = word + spare * (longest - word) // wanted
    console.print(table)
    console.width = usual


def plain(text: str) -> str:
    """``text`` on one line without control characters, which could rewrite a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def front_table(result: TuningResult) -> Table:
    """The front, smallest first, as the validation prompts judge it; ★ marks the recommended one."""
    called = view.roles(result)
    points = view.by_size(result.front)
    deciding = [] if result.decision is None else [result.decision.objective]
    wanted = [*result.objectives, "compression_ratio", *deciding]
    names = [view.RATIO if name == view.TIME else name for name in wanted]
    columns = _measured(dict.fromkeys(names), [view.shown(point) for point in points])
    table = _table(columns)
    for point in points:
        digest = point.calibration.config.digest
        roles = ", ".join(MARKS.get(role, plain(role)) for role in called.get(digest, ()))
        table.add_row(
            Name(point.calibration.config),
            *(number(view.mean(view.shown(point), name)) for name in columns),
            Text(_note(point, roles)),
            style="bold" if digest == result.recommended else "" if point.feasible else "dim",
        )
    return table


def answer(result: TuningResult) -> list[str]:
    """What the recommended configuration gains and which metric decided; then what would have to change for another
    answer, and what a reader of the figures must know. A line each."""
    decision = result.decision
    if decision is None:
        return []
    return [
        plain(f"{decision.headline} (chosen for the {aim(decision.objective)})"),
        *map(plain, (*decision.advice, *decision.notes)),
    ]


def measurement_table(measurements: Sequence[Measurement]) -> Table:
    """What an evaluation gave, a row per configuration in the order that was asked; means over the samples."""
    columns = _measured(MEASURED, measurements)
    table = _table(columns, note="KL\nworst")
    for measurement in measurements:
        loss = measurement.metrics.get("kl_divergence")
        table.add_row(
            Name(measurement.config),
            *(number(view.mean(measurement, name)) for name in columns),
            number(loss.worst) if loss else "",
        )
    return table


class Name:
    """A configuration's name that wraps between its parts, and within one only where it is wider than the column."""

    def __init__(self, config: CompressionConfig) -> None:
        self._name = describe(config)

    def __str__(self) -> str:
        return self._name

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measured:
        return Measured(max(map(len, self._name.split())), len(self._name)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first, *others = self._name.split(", ")
        lines = [first]
        for part in others:
            if len(f"{lines[-1]}, {part}") < options.max_width:  # and a comma may follow
                lines[-1] += f", {part}"
            else:
                lines[-1] += ","
                lines.append(part)
        yield Text("\n".join(lines))


def _table(columns: Sequence[str], note: str = "") -> Table:
    heads = [f"{SHORT.get(name, heading(name))}\n{SHORT_UNITS.get(name, unit(name))}".rstrip() for name in columns]
    table = new_table("configuration", *heads)
    table.add_column(note, overflow="fold")
    if view.RATIO in columns:
        table.caption, table.caption_justify, table.caption_style = REFERENCE, "left", "dim"
    return table


def _measured(names: Iterable[str], measurements: Sequence[Measurement]) -> list[str]:
    return [name for name in names if any(view.mean(one, name) is not None for one in measurements)]


def _note(point: FrontPoint, roles: str) -> str:
    verdict = view.verdict(point)
    return ", ".join(filter(None, (roles, "" if verdict == "met" else verdict)))
