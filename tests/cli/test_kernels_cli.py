"""``autokv kernels`` as a user calls it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autokv.cli.main import main
from autokv.kernels import backend
from autokv.kernels.native import compiler

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``autokv kernels ARGS`` with an empty cache folder: exit code, standard output, standard error."""
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path))
    # A process compiles once; here every command is a process.
    library = importlib.import_module("autokv.kernels.native.library")
    monkeypatch.setattr(library, "_library", library._library.__wrapped__)
    monkeypatch.setattr(compiler, "_FLAGS", ("-O0", "-shared", "-fPIC"))  # a quarter of the time

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autokv", "kernels", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


def no_compiler() -> None:
    raise compiler.CompilerError("no C compiler is on the path")


def test_list_names_what_is_used(kernels: Run, tmp_path: Path) -> None:
    code, out, err = kernels("list", "--device", "cpu", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["used"] == backend("cpu").name == "cpu"
    assert document["folder"] == str(tmp_path / "kernels")
    code, out, _ = kernels("list", "--device", "cpu")
    assert code == 0
    assert "cpu uses cpu: the device is a CPU" in out
    assert all(name in out for name in document["kernels"])


def test_list_says_that_a_setting_decides(kernels: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOKV_KERNELS", "torch")
    assert "cpu uses torch: AUTOKV_KERNELS says so" in kernels("list", "--device", "cpu")[1]


def test_list_says_why_there_is_no_c(kernels: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find", no_compiler)
    document = json.loads(kernels("list", "--device", "cpu", "--json")[1])
    assert document["kernels"]["cpu"] == "PyTorch; no C compiler found: no C compiler is on the path"


def test_kernels_that_cannot_run_are_refused(kernels: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOKV_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    for command in ("list", "warm-up"):
        code, _, err = kernels(command, "--device", "cpu")
        assert code == 2
        assert err.startswith("error: AUTOKV_KERNELS: Triton kernels do not run on a cpu device;")


def test_warm_up_leaves_a_library_to_load(kernels: Run, tmp_path: Path) -> None:
    try:
        compiler.find()
    except compiler.CompilerError as error:
        pytest.skip(str(error))
    code, out, err = kernels("warm-up", "--device", "cpu")
    assert code == 0, err
    (made,) = (tmp_path / "kernels").glob("*.so")
    assert str(made) in out.replace("\n", "")
    written = made.stat().st_mtime_ns
    assert kernels("warm-up", "--device", "cpu")[0] == 0
    assert made.stat().st_mtime_ns == written


def test_warm_up_without_a_compiler_says_what_runs_instead(kernels: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find", no_compiler)
    code, out, _ = kernels("warm-up", "--device", "cpu")
    assert code == 0
    assert "PyTorch computes attention, more slowly than C: no C compiler is on the path" in out
