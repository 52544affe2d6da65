"""The page of a trace: complete, self-contained, deaf to hostile names, and drawn by a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autokv.report import trace_page, trace_rows
from autokv.workload import PrefixBlocks, RejectedRows, WorkloadTrace, generate, statistics_of
from autokv.workload.arrivals import Poisson
from autokv.workload.series import over_length, over_time
from autokv.workload.synthesis import Lengths

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def rich_trace() -> WorkloadTrace:
    """A trace with everything that a trace may have."""
    trace = generate(
        requests=500, arrivals=Poisson(2.0), input_tokens=Lengths(700, 2000), output_tokens=Lengths(130, 450)
    )
    number = np.arange(500)
    return replace(
        trace,
        name=HOSTILE,
        rejected=RejectedRows(7, (3, 4, 5, 6, 7), HOSTILE),
        prefixes=PrefixBlocks(512, np.arange(501) * 2, np.stack([number % 5, number + 5], axis=1).ravel()),
        session=number // 4,
        turn=number % 4 + 1,
    )


def page(trace: WorkloadTrace) -> str:
    return trace_page.page(
        statistics_of(trace), over_length(trace), over_time(trace), notes=[HOSTILE], scenario=[f"edge: {HOSTILE}"]
    )


def figures(document: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', document, re.DOTALL)
    return json.loads(found[1])


def test_everything_is_there() -> None:
    document = page(rich_trace())
    assert set(figures(document)) == {"requests", "tokens", "flight", "lengths", "reuse"}
    for expected in ("7 left out (lines 3, 4, 5, 6, 7, …)", "prefix reuse", "sessions", "Scenario", "counts in 10 s"):
        assert expected in document


def test_hostile_names_stay_text_and_nothing_leaves_the_page() -> None:
    document = page(rich_trace())
    own = document.replace(re.search(r"<script>.*?</script>", document, re.DOTALL)[0], "")
    assert "<img" not in own
    assert "alert(1)</script>" not in own
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", own)


def test_what_a_trace_lacks_has_no_chart() -> None:
    trace = rich_trace()
    bare = WorkloadTrace("bare", "test", np.zeros(500), trace.input_tokens, trace.output_tokens)
    assert set(figures(page(bare))) == {"lengths"}
    assert trace_rows.facts(statistics_of(bare)) == {"format": "test", "requests": "500", "arrivals": "none"}


def test_charts_hold_what_was_measured() -> None:
    trace = rich_trace()
    drawn = figures(page(trace))
    series = over_time(trace)
    assert drawn["requests"]["data"][0]["y"] == pytest.approx(series.requests_per_s.tolist(), rel=1e-4)
    assert drawn["flight"]["data"][0]["y"] == pytest.approx(series.in_flight.tolist(), rel=1e-4)
    reuse = statistics_of(trace).reuse
    assert drawn["reuse"]["data"][0]["y"] == pytest.approx([100 * share for _, share in reuse.caches], rel=1e-4)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_a_browser_draws_every_chart(tmp_path: Path) -> None:
    file = tmp_path / "trace.html"
    file.write_text(page(rich_trace()), encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = ["chromium", *options.split(), "--disable-component-update", "--virtual-time-budget=4000", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert len(re.findall(r'class="plot js-plotly-plot"', done.stdout)) == 5
