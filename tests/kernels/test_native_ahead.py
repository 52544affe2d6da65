"""Kernels that were compiled with the installation, where there is no compiler."""

from __future__ import annotations

import importlib
import platform
from pathlib import Path

import pytest

from autokv.kernels.backend import CPU
from autokv.kernels.decode_attention import native
from autokv.kernels.native import compiler
from kernel_cases import CASES, attention_error

library = importlib.import_module("autokv.kernels.native.library")
VARIANTS = compiler.VARIANTS.get(platform.machine(), ())
NEEDS = {variant.name: variant.needs for variant in compiler.VARIANTS["x86_64"]}
V3, V4 = NEEDS["x86-64-v3"], NEEDS["x86-64-v4"]


def none() -> None:
    raise compiler.CompilerError("no C compiler is on the path")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled once and not optimised, which takes a quarter of the time."""
    if not VARIANTS:
        pytest.skip("nothing is built ahead for this kind of processor")
    try:
        found = compiler.find()
    except compiler.CompilerError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "_FLAGS", ("-O0", "-shared", "-fPIC"))
        assert len(compiler.build_ahead(folder, found)) == len(VARIANTS)
    return folder


def test_what_was_built_is_found_and_right(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find", none)
    monkeypatch.setattr(library, "BUILT_AHEAD", built)
    found = library.find_library()
    assert found.path is not None
    assert found.path.parent == built
    monkeypatch.setattr(native, "library", lambda: found)
    assert all(attention_error(case, CPU) <= case.limit for case in CASES[::5])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86")
@pytest.mark.parametrize(
    ("features", "name"),
    [
        (V4 | {"avx512_vnni", "sse2"}, "x86-64-v4-vnni"),
        (V4, "x86-64-v4"),
        (V4 - {"avx512bw"}, "x86-64-v3"),
        (V3 | {"avx512f"}, "x86-64-v3"),
        (V3 - {"fma"}, "x86-64"),
        (frozenset(), "x86-64"),
    ],
)
def test_the_fastest_that_runs_is_taken(
    features: frozenset[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_features", lambda: features)
    assert compiler.built_ahead(tmp_path) is None
    for variant in VARIANTS:
        compiler._ahead(tmp_path, variant).touch()
    assert compiler.built_ahead(tmp_path) == next(
        compiler._ahead(tmp_path, variant) for variant in VARIANTS if variant.name == name
    )


def test_what_other_sources_were_built_from_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variant in VARIANTS:
        compiler._ahead(tmp_path, variant).touch()
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / compiler.ENTRY).write_text("int changed;\n")
    monkeypatch.setattr(compiler, "SOURCES", sources)
    assert compiler.built_ahead(tmp_path) is None


def test_without_either_the_loss_is_said_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiler, "find", none)
    monkeypatch.setattr(library, "BUILT_AHEAD", tmp_path)
    assert library.find_library().reason == "no C compiler is on the path"
    (line,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "half the speed" in line
    assert "install a C compiler" in line
    assert "\n" not in line
