"""The terminal: tables that fit 80 columns, and the progress of a search.

Names, paths and reasons come from the user or from files; they are shown as plain text, never read as markup, and
control characters are replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement as Measured
from rich.table import Table
from rich.text import Text

from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.describe import describe
from autokv.report.format import heading, number, unit
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
    "attention_us": "attention",
    "attention_baseline_us": "16-bit",
    "attention_fp8_us": "fp8",
    "compress_us": "compress",
    "ttft_ms": "TTFT",
    "ttft_p95_ms": "TTFT p95",
    "tpot_ms": "TPOT",
    "tpot_p95_ms": "TPOT p95",
    "throughput_tokens_per_s": "output",
    "goodput_requests_per_s": "goodput",
    "concurrent_requests": "at once",
    "sustained_requests_per_s": "sustained",
    "price_per_million_tokens": "price",
}
UNITS = {"requests/s": "req/s", "per million tokens": "per Mtoken"}
MARKS = {"recommended": "★", "fastest": "fast", "smallest": "small", "knee": "knee"}
MEASURED = (view.BYTES, "compression_ratio", "kl_divergence", "top1_agreement", "task_score", view.TIME)
"""Columns of an evaluation, as far as they were measured."""


def output(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or 80 columns where there is none."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=WIDTH)


def print_table(console: Console, table: Table) -> None:
    """Print a table within the width of ``console``; one that would be cut or break words is wider.

    Columns that wrap do so between words; longer ones, such as paths, are broken.
    """
    for column in table.columns:
        texts = [str(cell) for cell in (column.header, *column.cells)]
        if column.no_wrap:
            column.min_width = max((len(line) for text in texts for line in text.splitlines()), default=0)
        else:
            words = (len(word) for text in texts for word in text.split())
            column.min_width = max((length for length in words if length <= LONGEST_WORD), default=0)
    usual = console.width
    options = console.options.update(max_width=WIDEST)
    console.width = max(usual, Measured.get(console, options, table).minimum)
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
    names = [*result.objectives, "compression_ratio", *deciding]
    columns = _measured(dict.fromkeys(names), [view.shown(point) for point in points])
    table = _table(columns)
    for point in points:
        digest = point.calibration.config.digest
        roles = ", ".join(MARKS.get(role, plain(role)) for role in called.get(digest, ()))
        table.add_row(
            Text(describe(point.calibration.config)),
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
        plain(f"{decision.headline} (decided by {decision.objective})"),
        *map(plain, (*decision.advice, *decision.notes)),
    ]


def measurement_table(measurements: Sequence[Measurement]) -> Table:
    """What an evaluation gave, a row per configuration in the order that was asked; means over the samples."""
    columns = _measured(MEASURED, measurements)
    table = _table(columns, note="KL\nworst")
    for measurement in measurements:
        loss = measurement.metrics.get("kl_divergence")
        table.add_row(
            Text(describe(measurement.config)),
            *(number(view.mean(measurement, name)) for name in columns),
            number(loss.worst) if loss else "",
        )
    return table


def _table(columns: Iterable[str], note: str = "") -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("configuration", overflow="fold")
    for name in columns:
        head = SHORT.get(name, heading(name))
        table.add_column(f"{head}\n{UNITS.get(unit(name), unit(name))}".rstrip(), justify="right", no_wrap=True)
    table.add_column(note, overflow="fold")
    return table


def _measured(names: Iterable[str], measurements: Sequence[Measurement]) -> list[str]:
    return [name for name in names if any(name in measurement.metrics for measurement in measurements)]


def _note(point: FrontPoint, roles: str) -> str:
    verdict = view.verdict(point)
    return ", ".join(filter(None, (roles, "" if verdict == "met" else verdict)))
