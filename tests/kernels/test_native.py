"""The C kernels: compiled anywhere, for any processor, and PyTorch where nothing can be compiled."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autokv.kernels import Operands, Plain, Rows, Side, select
from autokv.kernels.backend import CPU
from autokv.kernels.decode_attention import native
from autokv.kernels.native import Library, compiler, library
from autokv.kernels.native.library import bind, find_library
from autokv.kernels.parity import LIMIT_FLOAT32, attention_error_at_size
from kernel_cases import CASES, Case, Form, attention_error, build

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
needs_compiler = pytest.mark.skipif(library().decode_attention is None, reason=f"no kernels: {library().reason}")

# Instruction sets that the source is written for, in the x86 names; products of integers as any processor has them too.
PROCESSORS = {
    "16 lanes": ("-march=x86-64-v4",),
    "8 lanes": ("-march=x86-64-v3",),
    "4 lanes": ("-march=x86-64", "-DINTEGERS=1"),
}
# Whole vectors of 2, 4 and 8 bits in a group, so that codes are multiplied as integers; blocks and groups stay partial.
IN_INTEGERS = [
    replace(CASES[0], name=f"int{bits} by {axis}, {head_dim}, {group}", keys=Form(bits, axis, size),
            values=Form(bits, axis, size), head_dim=head_dim, group=group, lengths=((70, 133),))
    for bits in (8, 4, 2)
    for axis in ("channel", "token")
    for size, head_dim, group in ((32, 128, 1), (64, 256, 5), (16, 80, 4))
]  # fmt: skip


@pytest.fixture(scope="module", params=PROCESSORS)
def compiled_for(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The kernels compiled for an older processor than this one may be."""
    if not os.path.exists("/proc/cpuinfo") or "avx512f" not in Path("/proc/cpuinfo").read_text():  # noqa: PTH110
        pytest.skip("this processor does not run every one of them")
    # Not optimised, which takes a quarter of the time.
    flags = (*PROCESSORS[request.param], "-O0")
    path = compiler.compiled(tmp_path_factory.mktemp("kernels"), compiler.find(), flags)
    return Library(bind(ctypes.CDLL(str(path))), path)


@needs_compiler
def test_every_width_of_vectors(compiled_for: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: compiled_for)
    cases = [*CASES, *IN_INTEGERS]
    errors = {case.name: attention_error(case, CPU) for case in cases}
    assert {case.name: errors[case.name] for case in cases if not errors[case.name] <= case.limit} == {}


@needs_compiler
@pytest.mark.parametrize("case", IN_INTEGERS, ids=lambda case: case.name)
def test_products_of_integers(case: Case) -> None:
    assert attention_error(case, CPU) <= case.limit


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("lengths", [(3000, 3000), (4100, 7)])
def test_rows_split_over_threads(threads: int, lengths: tuple[int, int]) -> None:
    keys, values = Form(4, "channel"), Form(2, "token")
    case = replace(CASES[0], keys=keys, values=values, lengths=(lengths,), residual_tokens=(300,))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert attention_error_at_size(build(case), CPU) < LIMIT_FLOAT32
    finally:
        torch.set_num_threads(before)


@needs_compiler
@pytest.mark.parametrize("form", [Form(4, "token", 8), Form(2, "token", 4), Form(3, "token", 40), Form(8, "token", 20)])
def test_groups_that_do_not_end_where_vectors_do(form: Form) -> None:
    case = replace(CASES[0], keys=form, values=form, head_dim=80)
    assert attention_error(case, CPU) < LIMIT_FLOAT32


@needs_compiler
@pytest.mark.parametrize("head_dim", [1, 3, 8, 16, 40, 72, 112, 512])
@pytest.mark.parametrize("bits", [16, 8, 4, 3, 2])
def test_any_head_dim(head_dim: int, bits: int) -> None:
    form = Form(bits, "channel") if bits < 16 else Form()
    case = replace(CASES[0], keys=form, values=form, head_dim=head_dim)
    assert attention_error(case, CPU) < LIMIT_FLOAT32


@needs_compiler
@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 7, 8, 16])
def test_any_group(group: int) -> None:
    case = replace(CASES[0], keys=Form(4, "channel"), values=Form(4, "token"), group=group)
    assert attention_error(case, CPU) < LIMIT_FLOAT32


@needs_compiler
def test_scores_as_large_as_floats_hold_them() -> None:
    """Weights are relative to the largest score: neither exponential overflows nor all of them vanish."""
    tokens = torch.tensor([[300.0, 0], [299.0, 0], [-300.0, 0], [0, 0]]).half()
    values = torch.tensor([[1.0, 0], [0, 1.0], [9, 9], [9, 9]]).half()
    window = torch.empty(1, 0, 2).half()
    operands = Operands(1, 1, 2, Rows(1, 4), Side(Plain(tokens), window), Side(Plain(values), window))
    attention = native.decode_attention(torch.tensor([[[30.0, 0], [-30.0, 0]]]), [operands], 1.0)
    torch.testing.assert_close(attention.output, torch.tensor([[[1.0, 0], [9, 9]]]))
    torch.testing.assert_close(attention.lse, torch.tensor([[9000.0, 9000.0]]))


@needs_compiler
def test_factors_and_windows_that_do_not_lie_in_rows() -> None:
    case = next(case for case in CASES if case.name == "low-rank residual")
    call = build(case)
    (part,) = call.parts

    def scattered(side: Side) -> Side:
        residual = side.low_rank_residual
        assert residual is not None
        residual = replace(residual, right=residual.right.mT.contiguous().mT)
        window = side.residual_window.mT.contiguous().mT
        return replace(side, low_rank_residual=residual, residual_window=window)

    moved = replace(call, parts=(replace(part, keys=scattered(part.keys), values=scattered(part.values)),))
    torch.testing.assert_close(moved.run(CPU), call.run(CPU), rtol=0, atol=0)


@needs_compiler
def test_the_same_entry_many_times() -> None:
    call = build(next(case for case in CASES if case.name == "ragged"))
    many = select(call.parts[0], torch.zeros(5, dtype=torch.int64))
    found = native.decode_attention(call.query.expand(5, -1, -1), [many], call.scaling)
    torch.testing.assert_close(found.output, call.run(CPU).output.expand(5, -1, -1), rtol=1e-5, atol=1e-6)


def _run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": BENCHMARKS, **environment},
    )
    return done.stdout + done.stderr


CHECK = """
import warnings; warnings.simplefilter("error")
from autokv.kernels import backend
from autokv.kernels.native import library
from kernel_cases import CASES, attention_error
cpu = backend("cpu")
assert cpu.name == "cpu"
assert all(attention_error(case, cpu) <= case.limit for case in CASES[::9])
print("compiled" if library().decode_attention else "not compiled:", library().path, library().reason)
"""


def test_without_a_compiler(tmp_path: Path) -> None:
    found = _run(CHECK, PATH=str(tmp_path), CC="", AUTOKV_CACHE_DIR=str(tmp_path / "cache"))
    printed, warned = found.splitlines()
    assert printed == "not compiled: None no C compiler is on the path"
    assert warned.endswith("no C compiler is on the path; install a C compiler (gcc or clang), or set CC")


def _program(tmp_path: Path, name: str, script: str) -> str:
    program = tmp_path / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands for the compiler")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            '[ "$1" = --version ] && echo bad 1.0 && exit; echo "x.c:1: error: nothing works" >&2; exit 1',
            "nothing works",
        ),
        ("exit 3", "exit status 3"),
        ('[ "$1" = --version ] && exit; while [ "$1" != -o ]; do shift; done; echo junk > "$2"', "file too short"),
    ],
)
def test_a_compiler_that_fails(
    tmp_path: Path, script: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", _program(tmp_path, "cc", script))
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path / "cache"))
    caplog.set_level("INFO")
    found = find_library()
    assert found.decode_attention is None
    assert found.reason is not None
    assert reason in found.reason
    assert sum("runs in PyTorch" in message for message in caplog.messages) == 1


@pytest.fixture
def small_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder, and a source that takes no time to compile."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / compiler.ENTRY).write_text("int autokv_decode_attention(const void *c, void *p) { return !c || !p; }\n")
    monkeypatch.setattr(compiler, "SOURCES", sources)
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path))
    return tmp_path / "kernels"


@needs_compiler
def test_compiled_once_kept_and_mended(small_source: Path) -> None:
    kept = compiler.compiled(small_source, compiler.find())
    made = kept.stat().st_mtime_ns
    assert compiler.compiled(small_source, compiler.find()) == kept
    assert kept.stat().st_mtime_ns == made
    kept.write_bytes(b"damaged")
    found = find_library()
    assert found.decode_attention is not None
    assert found.path == kept
    assert list(small_source.iterdir()) == [kept]
    assert kept.stat().st_size > 1_000


@needs_compiler
@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_others_may_write_to_is_not_trusted(small_source: Path) -> None:
    small_source.mkdir()
    small_source.chmod(0o777)
    found = find_library()
    assert found.decode_attention is not None
    assert found.path is None
    assert list(small_source.iterdir()) == []


@needs_compiler
def test_several_that_compile_at_the_same_time(small_source: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: compiler.compiled(small_source, compiler.find()), range(4)))
    assert list(small_source.iterdir()) == list(paths)
