"""``autokv bench kernels`` as a user calls it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autokv.cli.main import main
from autokv.evaluation import clock

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``autokv bench kernels ARGS`` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clock, "last_level_cache_bytes", lambda device: 1 << 12)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autokv", "bench", "kernels", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


def test_the_table_and_the_file_say_the_same(bench: Run, tmp_path: Path) -> None:
    options = ["--shape", "smollm2,qwen2.5-7b", "--batch", "1,2", "--context", "65", "--formats", "int4,int4-rank4"]
    code, out, err = bench(*options, "--device", "cpu", "--output", "folder/table.json")
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    document = json.loads((tmp_path / "folder" / "table.json").read_text())
    assert document["benchmark"] == "kernels"
    assert document["device"]["kind"] == "cpu"
    assert document["device"]["copy_gb_per_s"]["median"] > 0
    assert {"date", "backend", "versions"} <= document.keys()
    rows = document["rows"]
    expected = [
        (shape, batch, 65, form)
        for shape in ("smollm2", "qwen2.5-7b")
        for batch in (1, 2)
        for form in ("pytorch 16-bit", "int4", "int4-rank4")
    ]
    assert [(row["shape"], row["batch"], row["context"], row["format"]) for row in rows] == expected
    printed = [line.split() for line in out.splitlines() if line.startswith("int4")]
    assert [line[0] for line in printed] == [row["format"] for row in rows if row["format"].startswith("int4")]
    for row in rows:
        assert {"p5", "p50", "p95", "n"} == row["us"].keys()
        assert row["copy_share"] == pytest.approx(row["gb_per_s"] / document["device"]["copy_gb_per_s"]["median"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--shape", "gpt-2"], "gpt-2"),
        (["--formats", "int5"], "int5"),
        (["--formats", ","], "--formats"),
        (["--batch", "0"], "--batch"),
        (["--batch", "1,many"], "--batch"),
        (["--context", "-8"], "--context"),
        (["--context", "²"], "--context"),
        (["--device", "abacus"], "abacus"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_bad_input_is_one_line(bench: Run, tmp_path: Path, options: list[str], says: str) -> None:
    code, _, err = bench(*options)
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 2, err
    assert len(lines) == 1, err
    assert says in lines[0]
    assert list(tmp_path.iterdir()) == []
