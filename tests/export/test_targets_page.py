"""docs/targets.md says of each target what the target says of itself."""

from __future__ import annotations

from pathlib import Path

from autokv.config import AfterPrefill, Write
from autokv.export import PARTS, TARGETS

PAGE = (Path(__file__).parents[2] / "docs" / "targets.md").read_text(encoding="utf-8")


def rule(write: Write) -> str:
    """A write rule in the table's words."""
    if isinstance(write, AfterPrefill):
        return "`after_prefill`" + ("" if write.prompt_window else ", the whole prompt")
    exact = write.own_chunk == "exact"
    return "`on_write`" + (f", chunks of {write.chunk_tokens} tokens see themselves exactly" if exact else "")


def test_every_target_has_its_row() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and "--target" not in line]
    expected = []
    for target in TARGETS.values():
        read = f"[{target.version}]({target.source})" if target.source.startswith("https://") else target.version
        cells = (f"`{target.name}`", target.title, read, target.holds, rule(target.write), target.bytes_counted)
        expected.append(f"| {' | '.join(cells)} |")
    assert rows == expected


def test_every_part_of_a_report_is_listed() -> None:
    assert all(f"`{part}`" in PAGE for part in PARTS)
