"""A reader of another distribution: found by its entry point, asked before the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from autokv.errors import PluginError
from autokv.workload import read_trace
from autokv.workload.readers import installed_readers

READER = '''
"""The recipe of the documentation."""
import numpy as np

from autokv.workload.readers.columns import Row, checked, from_rows
from autokv.workload.readers.times import checked_unit, nanoseconds


class PipeReader:
    name = "pipes"
    expects = "lines of seconds|input|output under a line `#pipes`"

    def recognizes(self, opening):
        return opening.first_line == "#pipes"

    def read(self, source, options, bad):
        unit = checked_unit(options.time_unit, "s", self.name)
        rows, lines, number = [], [], 0
        for block in source.blocks():
            for text in block.decode().splitlines():
                number += 1
                if not text or text.startswith("#"):
                    continue
                try:
                    time, inputs, outputs = text.split("|")
                    rows.append(checked(Row(nanoseconds(float(time), unit), int(inputs), int(outputs))))
                    lines.append(number)
                except ValueError as error:
                    bad.add(number, str(error))
        return from_rows(rows, lines)


PIPES = PipeReader()
NOTHING = 5
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def install(folder: Path, module: str, thing: str) -> None:
    (folder / f"{module}.py").write_text(READER)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[autokv.readers]\n{module} = {module}:{thing}\n")


def test_a_reader_of_another_distribution_reads_its_files(site: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("#pipes\n0.5|10|20\n2|30|0\n3|x|5\n4.5|50|60\n")
    install(site, "pipes_for_tests", "PIPES")
    trace = read_trace(log, max_rejected_share=0.5)
    assert trace.format == "pipes"
    assert trace.arrival_s.tolist() == [0, 4]
    assert trace.input_tokens.tolist() == [10, 50]
    assert trace.rejected.lines == (4,)
    # Other files are read as before.
    log.write_text("prompt_tokens,completion_tokens\n5,6\n")
    assert read_trace(log).format == "table"


def test_what_is_no_reader_is_refused_by_name(site: Path) -> None:
    install(site, "nothing_for_tests", "NOTHING")
    with pytest.raises(PluginError, match=r"autokv\.readers: nothing_for_tests: 5 is no reader; it needs name"):
        installed_readers()
