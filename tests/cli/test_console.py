"""Terminal tables and progress: within 80 columns, plain where there is no terminal, deaf to control characters."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console
from rich.table import Column, Table

from autokv.cli.console import SHORT, Name, answer, front_table, measurement_table, output, plain, print_table
from autokv.cli.progress import TuningProgress, trial_line
from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement, Statistics
from autokv.evaluation.metrics import METRICS as METRICS_KNOWN
from autokv.evaluation.metrics import SERVING_METRICS
from autokv.report.describe import describe
from autokv.report.format import heading
from autokv.tuning.search import Progress
from autokv.tuning.trial import Decision, FrontPoint, TrialRecord, TuningResult

LONG = CompressionConfig.model_validate(
    {
        "pipeline": {
            "eviction": {
                "method": "expected_attention",
                "keep_ratio": 0.333,
                "layer_budget": "pyramid",
                "head_budget": "adaptive",
            },
            "quantization": {
                "method": "integer",
                "key": {"bits": 4, "axis": "token", "group_size": 32},
                "value": {"bits": 2, "axis": "channel", "group_size": 64},
                "rotation": "hadamard",
            },
            "low_rank": {"method": "residual", "key_rank": 8, "value_rank": 4},
        }
    }
)
METRICS = {
    "kl_divergence": 0.0123,
    "top1_agreement": 0.987,
    "nll_delta": 0.00012,
    "task_score": 0.75,
    "kv_bytes_per_token": 12345.0,
    "compression_ratio": 6.4,
    "attention_us": 1234.0,
    "attention_baseline_us": 4321.0,
}


def measurement(config: CompressionConfig, **changed: float) -> Measurement:
    return Measurement.of_samples(config, [{"id": str(index), **METRICS, **changed} for index in range(3)])


def text_of(renderable: object, width: int = 80, *, terminal: bool = True) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, force_terminal=terminal, color_system=None)
    if isinstance(renderable, Table):
        print_table(console, renderable)
    else:
        console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def build_result(objectives: tuple[str, ...]) -> TuningResult:
    small = measurement(LONG, kv_bytes_per_token=1000.0)
    large = measurement(CompressionConfig(), kv_bytes_per_token=99999.0)
    front = [FrontPoint(1, "tpe", large, None, False), FrontPoint(0, "tpe", small, small, True)]
    return TuningResult(objectives, [], front, LONG.digest, {"smallest": LONG.digest, "fastest": LONG.digest})


@pytest.mark.parametrize(
    "objectives",
    [
        ("kl_divergence", "kv_bytes_per_token", "attention_us"),
        ("nll_delta", "task_score", "kv_bytes_per_token", "attention_us"),
    ],
)
def test_the_fronts_table_fits_and_marks_the_recommended_one(objectives: tuple[str, ...]) -> None:
    text = text_of(front_table(build_result(objectives)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert text.index("1,000") < text.index("99,999"), "smallest first"
    assert "★" in text
    assert "unconfirmed" in text
    assert "…" not in text


def test_attention_is_a_ratio_whose_reference_is_named() -> None:
    text = text_of(front_table(build_result(("kl_divergence", "kv_bytes_per_token", "attention_us"))))
    small, large = (next(line for line in text.splitlines() if size in line) for size in ("1,000", "99,999"))
    assert f" {1234 / 4321:.3f} " in small
    assert " 1.00 " in large, "the 16-bit cache is what the others are compared with, however it was timed"
    assert "µs" not in text
    assert "PyTorch's fastest 16-bit attention" in text
    assert "PyTorch" not in text_of(front_table(build_result(("kl_divergence", "kv_bytes_per_token"))))


@pytest.mark.parametrize("decided", ["sustained_requests_per_s", "price_per_million_tokens"])
@pytest.mark.parametrize("served", sorted(SERVING_METRICS))
def test_a_served_front_fits_too_and_keeps_its_marks(served: str, decided: str) -> None:
    figures = {"tpot_ms": 1234.5, served: 12345.6, decided: 12345.6}
    small = measurement(LONG, kv_bytes_per_token=1000.0, **figures)
    front = [FrontPoint(0, "tpe", small, small, False)]
    objectives = tuple(dict.fromkeys(("kl_divergence", "kv_bytes_per_token", "tpot_ms", served)))
    named = dict.fromkeys(("fastest", "smallest"), LONG.digest)
    result = TuningResult(objectives, [], front, LONG.digest, named, decision=Decision(decided, "more"))
    for terminal in (True, False):
        text = text_of(front_table(result), terminal=terminal)
        assert max(map(len, text.splitlines())) <= 80
        assert {"★,", "fast,", "small,", "over", "limit"} <= set(text.split())


def test_what_decided_is_said_in_words() -> None:
    decision = Decision("sustained_requests_per_s", "2.9× as many requests at once")
    said = answer(dataclasses.replace(build_result(("kl_divergence",)), decision=decision))
    assert said == ["2.9× as many requests at once (chosen for the highest sustained requests/s within the SLO)"]


@pytest.mark.parametrize("width", [20, 30, 48, 80, 200])
def test_a_long_name_wraps_between_its_parts(width: int) -> None:
    lines = text_of(Name(LONG), width).splitlines()
    assert " ".join(map(str.strip, lines)) == describe(LONG)
    assert max(map(len, lines)) <= width
    for part in describe(LONG).split(", "):
        if len(part) < width:
            assert any(part in line for line in lines), "a part that fits stays whole"


@pytest.mark.parametrize("objectives", [("kl_divergence", "kv_bytes_per_token", "attention_us"), ("nll_delta",)])
def test_no_word_of_a_name_is_broken_in_the_fronts_table(objectives: tuple[str, ...]) -> None:
    words = text_of(front_table(build_result(objectives))).split()
    assert set(describe(LONG).split()) <= set(words)


@pytest.mark.parametrize("served", [3, 8], ids=["those of a scenario", "all of them"])
def test_a_table_of_serving_metrics_cuts_and_breaks_nothing(served: int) -> None:
    names = ("goodput_requests_per_s", "concurrent_requests", "sustained_requests_per_s", "ttft_ms", "ttft_p95_ms",
             "tpot_ms", "tpot_p95_ms", "throughput_tokens_per_s")[:served]  # fmt: skip
    result = build_result(("kl_divergence", *names))
    figures = Statistics(1234.5, 1.0, 1.0, 1.0, 3)
    for point in result.front:
        for measured in filter(None, (point.calibration, point.validation)):
            assert isinstance(measured.metrics, dict)
            measured.metrics.update(dict.fromkeys(names, figures))
    for terminal in (True, False):
        text = text_of(front_table(result), terminal=terminal)
        assert "…" not in text
        for word in ("nats/token", "req/s", "at once", "unconfirmed", "value/channel", "small,"):
            assert word in text
        assert (max(map(len, text.splitlines())) <= 80) == (served == 3)


@pytest.mark.parametrize("metric", METRICS_KNOWN)
def test_every_metric_has_a_heading_that_leaves_room_for_others(metric: str) -> None:
    assert len(SHORT.get(metric, heading(metric))) <= 11


def test_the_evaluations_table_fits_and_keeps_the_order() -> None:
    table = measurement_table([measurement(LONG), measurement(CompressionConfig(), kl_divergence=0.0)])
    text = text_of(table)
    assert max(map(len, text.splitlines())) <= 80
    assert text.index("Expected") < text.index("16-bit cache")
    assert "0.0123" in text
    assert "nats/token" in text


def test_without_a_terminal_the_console_has_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert output().width == 80


def test_control_characters_and_markup_stay_text() -> None:
    assert plain("a\x1b[2Jb\nc") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c"
    record = TrialRecord(3, "failed", {}, "tpe", None, None, "\x1b]0;x\x07 [bold]no[/bold]", 1.0)
    line = trial_line(record)
    assert "\x1b" not in line
    assert "[bold]no[/bold]" in line


def record(number: int) -> TrialRecord:
    return TrialRecord(number, "complete", {}, "tpe", LONG, measurement(LONG), None, 1.0)


def test_progress_is_a_line_per_batch_without_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    now = iter(range(100))
    with TuningProgress(console, 60, clock=lambda: float(next(now))) as progress:
        progress.say("contexts of 512 to 2048 tokens")
        for batch in (1, 2):
            for number in range(4):
                progress.trial(record(number))
            progress.batch(Progress(4 * batch, 60, 1, 0, 3, 0.5, 30.0, 400.0))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("trial 4 of 60 · front 3 · hypervolume 0.500 · 1 infeasible · 3")
    assert "left" in lines[2]
    assert "KL divergence 0.0123 nats/token, 12,345 B/token" in lines[2]


def test_the_panel_shows_everything_within_80_columns() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    clock = [100.0]
    progress = TuningProgress(console, 0, clock=lambda: clock[0])
    assert "starting" in text_of(progress.panel())
    progress.trial(record(11))
    progress.batch(Progress(12, 60, 2, 1, 5, 0.625, 30.0, 90.0))
    clock[0] = 110.0
    text = text_of(progress.panel(), width=120)
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "trial 12 of 60",
        "front 5",
        "hypervolume 0.625",
        "1 failed",
        "40 s, about 1 min 20 s left",
        "Expected",
    ):
        assert part in text


def test_what_comes_behind_the_search_is_named_and_no_time_is_promised() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    clock = [100.0]
    progress = TuningProgress(console, 60, clock=lambda: clock[0])
    progress.batch(Progress(56, 60, 2, 1, 5, 0.625, 300.0, 20.0))
    assert "about 20 s left" in text_of(progress.panel())
    clock[0] = 130.0
    assert " left" not in text_of(progress.panel()), "a batch that takes longer than expected has no time left"
    progress.batch(Progress(60, 60, 2, 1, 5, 0.625, 320.0, 0.0))
    text = text_of(progress.panel())
    assert "confirming the front" in text
    assert " left" not in text
    progress.say("timing 4 configurations of the front again, in turn")
    text = text_of(progress.panel())
    assert "timing 4 configurations of the front again" in text
    assert " left" not in text


def test_a_search_that_ends_early_is_followed_by_what_is_done_then() -> None:
    progress = TuningProgress(Console(file=io.StringIO(), width=80, force_terminal=True), 60, clock=lambda: 1.0)
    progress.batch(Progress(20, 60, 2, 1, 5, 0.625, 300.0, 600.0))
    progress.say("prefilling 8 validation prompts")
    text = text_of(progress.panel())
    assert ("prefilling 8 validation prompts" in text, " left" in text) == (True, False)
    progress.batch(Progress(24, 60, 2, 1, 5, 0.625, 300.0, 500.0))
    assert "about 8 min 20 s left" in text_of(progress.panel())


WORDS = ["recommended configuration", "a sentence of several words that is as long as a person writes", "short"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_table_breaks_a_word_or_cuts_a_cell(width: int) -> None:
    table = Table("name", Column("figures", no_wrap=True), "said")
    for word in WORDS:
        table.add_row(word, "1,234,567.89 requests/s", word)
    for terminal in (True, False):
        text = text_of(table, width, terminal=terminal)
        assert "…" not in text
        assert all(part in text for word in WORDS for part in word.split())
        assert max(map(len, text.splitlines())) <= width


def test_a_table_that_is_piped_is_as_wide_as_it_must_be() -> None:
    table = Table(*(Column(f"column {number}", no_wrap=True) for number in range(12)))
    table.add_row(*["1,234,567.89"] * 12)
    text = text_of(table, terminal=False)
    assert "…" not in text
    assert text.count("1,234,567.89") == 12
    assert len(text.splitlines()) == 5
