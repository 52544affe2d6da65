"""What a configuration changes on a trace, in words."""

from __future__ import annotations

from autokv.serving.comparison import Comparison, Run
from autokv.serving.cost_model import Basis

SAME = 0.05
"""Figures that differ by a smaller share are the same: measured costs are no better than that."""
SECONDS_FROM = 1e4
"""Milliseconds from which times are given in seconds."""
SMALL_SHARE = 0.1
"""Bandwidth is not short where decode attention takes less of a decoding step: no cache at all would gain no more."""

BASES: dict[Basis, str] = {
    "measured": "",
    "silicon": "predicted from kernel tables",
    "fitted": "predicted from costs fitted to a server's log",
    "estimated": "predicted, unvalidated",
}
"""How a verdict opens, by where its costs come from."""


def verdict(found: Comparison) -> str:
    """What is gained against 16 bits and fp8, or that nothing is, with the figures that say so; part of a sentence."""
    return hedged(_gained(found), found.basis)


def hedged(text: str, basis: Basis) -> str:
    """``text``, opened by how its figures were predicted where they were not measured."""
    return f"{BASES[basis]}: {text}" if BASES[basis] else text


def _gained(found: Comparison) -> str:
    here = "here" if found.basis == "measured" else "on that device"
    new, full = found.candidate, found.full
    if full is None:
        if found.impossible:
            return "; ".join(f"{name} cannot serve {here}: {why}" for name, why in found.impossible.items())
        return f"{new.name} {_alone(new)}{_rates(found)}"
    if _same(new, full):
        return f"the 16-bit cache {_alone(full)}{_rates(found)}"
    rates = [None if run.max_rate is None else run.max_rate.requests_per_s for run in (new, full)]
    if not found.memory_short and not _more(*rates):
        more_goodput = _more(new.report.goodput_requests_per_s, full.report.goodput_requests_per_s)
        share = found.attention_share or 0.0
        spare = f"with 16 bits the KV cache peaks at {_of_memory(full)} and no request waits for memory"
        if share <= SMALL_SHARE and not more_goodput:
            step = f"decode attention is {share:.0%} of a decoding step"
            return f"compression does not help this workload: {spare}, and {step}{_rates(found)}"
        if not _faster(new, full) and not more_goodput:
            step = "; ".join(part for part in (spare, _change("p50 TPOT", new, full)) if part)
            return f"{new.name} does not help this workload: {step}{_rates(found)}"
    memory = "runs out of memory" if found.memory_short else "does not run out of memory"
    changes = [f"compared with the 16-bit cache, which {memory}: {_against(found, full)}"]
    if found.float8 is not None and not _same(new, found.float8):
        changes.append(f"compared with fp8: {_against(found, found.float8)}")
    return "; ".join(changes) + _rates(found)


def _against(found: Comparison, old: Run) -> str:
    """All that a baseline is compared by."""
    new, gain = found.candidate, found.gain(old)
    fit = "" if abs(gain.concurrent_requests - 1) < SAME else f"{times(gain.concurrent_requests)} "
    parts = [f"{fit}as many requests fit at once"]
    after, before = new.report.goodput_requests_per_s, old.report.goodput_requests_per_s
    if after or before:
        parts.append(f"goodput {_percent(after or 0, before or 0, f'{after:.3g}', f'{before:.3g} requests/s')}")
    else:
        after, before = new.report.throughput_tokens_per_s, old.report.throughput_tokens_per_s
        parts.append(f"throughput {_percent(after, before, f'{after:.3g}', f'{before:.3g} tokens/s')}")
    parts += [_change(name, new, old) for name in ("p95 TTFT", "p50 TPOT")]
    if old.report.refused > new.report.refused:
        parts.append(f"{old.report.refused - new.report.refused:,} requests fit that never would")
    return ", ".join(part for part in parts if part)


def _rates(found: Comparison) -> str:
    """The rates that engines sustain, where they were looked for, and the rate that they are asked for."""
    own = found.candidate
    if own.max_rate is None:
        return ""
    others = [
        f"{run.max_rate.requests_per_s:.3g} with {_bits(run)}"
        for run in (found.full, found.float8)
        if run is not None and run.max_rate is not None and not _same(own, run)
    ]
    against = f", against {' and '.join(others)}" if others else ""
    asked = "" if found.requests_per_s is None else f"; requests arrive at {found.requests_per_s:.3g}/s"
    return f"; it sustains {own.max_rate.requests_per_s:.3g} requests/s within the SLO{against}{asked}"


def _alone(run: Run) -> str:
    """A run without a baseline."""
    report = run.report
    good = "" if report.slo_attainment is None else f" and {report.slo_attainment:.0%} of the requests within the SLO"
    return f"serves {report.throughput_tokens_per_s:.3g} tokens/s{good}"


def _of_memory(run: Run) -> str:
    report = run.report
    return f"{size_text(report.peak_kv_bytes)} of {size_text(report.capacity_bytes)}"


def _change(name: str, new: Run, old: Run) -> str:
    """A time before and after, with how it changed."""
    percentile, metric = name.split()
    values = [getattr(run.report, f"{metric.lower()}_ms").get(percentile) for run in (new, old)]
    if None in values:
        return ""
    after, before = values
    scale, unit = (1e3, "s") if max(after, before) >= SECONDS_FROM else (1.0, "ms")
    return f"{name} {_percent(after, before, _time(after / scale), f'{_time(before / scale)} {unit}')}"


def _faster(new: Run, old: Run) -> bool:
    """Whether output tokens or first tokens come sooner by more than what measurements differ by."""
    pairs = [
        (getattr(new.report, metric).get(percentile), getattr(old.report, metric).get(percentile))
        for metric, percentile in (("ttft_ms", "p95"), ("tpot_ms", "p50"))
    ]
    return any(after is not None and before is not None and after < before * (1 - SAME) for after, before in pairs)


def _more(after: float | None, before: float | None) -> bool:
    return after is not None and before is not None and after > before * (1 + SAME)


def _same(new: Run, old: Run) -> bool:
    """Whether the candidate is the baseline itself."""
    same = new.concurrent_requests == old.concurrent_requests
    return same and new.report.ttft_ms == old.report.ttft_ms and new.report.tpot_ms == old.report.tpot_ms


def _bits(run: Run) -> str:
    return "16 bits" if run.name == "16-bit" else run.name


def times(ratio: float) -> str:
    """A ratio as a multiple: ``2.9×``."""
    return f"{ratio:.2g}×" if ratio < 10 else f"{ratio:,.0f}×"


def _percent(after: float, before: float, new: str, old: str) -> str:
    if before and abs(after / before - 1) < SAME:
        return f"about the same ({old})"
    return f"{f'{percent(after, before)} ' if before else ''}({new} instead of {old})"


def percent(after: float, before: float) -> str:
    """The change of a figure: ``+85%``; what grows several times over is ``33×``."""
    return times(after / before) if after >= 3 * before else f"{after / before - 1:+.0%}"


def more(share: float) -> str:
    """A gain in words: ``85% more``, ``12% fewer``, ``3.2× as many``."""
    if share >= 1:
        return f"{times(1 + share)} as many"
    return f"{abs(share):.0%} {'fewer' if share < 0 else 'more'}"


def _time(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def size_text(size: float) -> str:
    """Bytes in the unit that suits them: ``2.1 GB``."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
