"""``autokv hardware`` as a user calls it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autokv.cli.main import main
from autokv.hardware import HardwareProfile, find, measuring

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``autokv hardware ARGS`` with an empty cache folder: exit code, standard output, standard error."""
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(measuring, "SECONDS_PER_RATE", 0.01)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autokv", "hardware", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


def test_what_was_probed_is_written_kept_listed_and_found(hardware: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    code, out, err = hardware("probe", "--device", "cpu", "--output", str(path))
    assert code == 0, err
    profile = find(path)
    assert profile.source == "measured"
    assert profile.fingerprint in out
    assert f"written to {path}" in out
    code, out, err = hardware("list", "--json")
    assert code == 0, err
    listed = {entry["id"]: entry for entry in json.loads(out)}
    assert listed[profile.fingerprint]["source"] == "measured"
    assert listed["h100-sxm"]["source"] == "data sheet"
    code, out, err = hardware("show", profile.fingerprint, "--json")
    assert code == 0, err
    assert HardwareProfile.from_dict(json.loads(out)) == profile


def test_json_is_the_profile_and_nothing_else(hardware: Run) -> None:
    code, out, err = hardware("probe", "--device", "cpu", "--json")
    assert code == 0, err
    assert HardwareProfile.from_dict(json.loads(out)).kind == "cpu"


def test_a_cache_that_cannot_be_written_does_not_lose_the_profile(
    hardware: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path / "file"))
    code, out, err = hardware("probe", "--device", "cpu")
    assert code == 0, err
    assert "not kept for `autokv hardware list`" in out


def test_the_list_fits_a_terminal(hardware: Run) -> None:
    code, out, err = hardware("list")
    assert code == 0, err
    assert "NVIDIA H200 SXM" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_device_is_shown_with_its_source(hardware: Run) -> None:
    code, out, err = hardware("show", "h100 sxm")
    assert code == 0, err
    assert "3,350 GB/s" in out
    assert "data sheet (peaks)" in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("show", "a100"), "error: hardware: 'a100' could be a100-40gb-sxm, a100-80gb-sxm; say which"),
        (("show", "abacus"), "error: hardware: no device 'abacus' is known"),
        (("show", "no.json"), "error: no.json: cannot be read (No such file or directory); check the path"),
        (("probe", "--device", "cuda:97"), "is not here"),
        (("probe", "--device", "abacus"), "unknown device 'abacus'"),
    ],
)
def test_bad_input_is_one_line(hardware: Run, arguments: tuple[str, ...], line: str) -> None:
    code, _, err = hardware(*arguments)
    assert code == 2
    assert line in err
    assert len(err.splitlines()) == 1
