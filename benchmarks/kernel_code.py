"""What the Triton kernels are on an H100: registers, spills, shared memory and instructions, counted without a GPU.

Every operation is called on CPU tensors with a driver that says sm_90: each launch is specialised and compiled as it
would be there, and not run. Every candidate of the autotuner is counted, the first first.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"  # settled when Triton is imported

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from autokv.kernels import Rows, autotune
from autokv.kernels.triton_backend import triton_operations
from kernel_cases import Case, Form, build

HEAD_DIM, GROUP = 128, 4
CANDIDATES = 4
"""Launches that a kernel names at most."""
Row = dict[str, Any]


class _H100:
    """A driver of which nothing but compilation is asked."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def decode_cases(head_dim: int) -> dict[str, Case]:
    """Formats as they are used, keys by channel and values by token, each with a residual window."""
    shape: dict[str, Any] = {"head_dim": head_dim, "group": GROUP, "lengths": ((130, 130),), "dtype": torch.bfloat16}
    size = 64 if head_dim % 64 == 0 else 16
    forms = {"16 bit": (Form(), Form()), "fp8": (Form(8), Form(8))}
    for bits in (8, 4, 3, 2):
        forms[f"int{bits}"] = Form(bits, "channel", 64), Form(bits, "token", size)
    forms["keys int4, values int2"] = forms["int4"][0], forms["int2"][1]
    for name, changed in (
        ("rotated", {"rotated": True}),
        ("low-rank residual", {"low_rank": 4}),
        ("rotated, low-rank residual", {"rotated": True, "low_rank": 4}),
    ):
        forms[f"int4, {name}"] = replace(forms["int4"][0], **changed), replace(forms["int4"][1], **changed)
    forms["int4, latent"] = Form(4, "channel", 64, latent=32), Form(4, "token", 16, latent=32)
    forms["fp8, low-rank residual"] = Form(8, low_rank=4), Form(8, low_rank=4)
    cases = {name: Case(name, *form, held=torch.bfloat16, **shape) for name, form in forms.items()}
    for name in ("16 bit", "fp8", "int4", "int2"):
        cases[f"{name}, ragged"] = replace(cases[name], lengths=((19, 130),))
    cases["int4, soft cap, sliding window"] = replace(cases["int4"], softcap=30.0, sliding_window=64)
    cases["int4, later step"] = replace(cases["int4"], lengths=((256, 256),), residual_tokens=(16,))
    cases["int4, group of 7"] = replace(cases["int4"], group=7)
    cases["int4, group of 16"] = replace(cases["int4"], group=16)
    return cases


def decode(case: Case) -> None:
    """The launches of one decode attention."""
    build(case).run(triton_operations())


def prefill(width: int, dtype: torch.dtype) -> None:
    """The launches of quantization, compaction and window scores, at a size that has full and partial tiles."""
    dense, rows, triton_backend = torch.zeros(8, 300, width, dtype=dtype), Rows(8, 300), triton_operations()
    for rotated in (False, True):
        for bits in (4, 3) if rotated else (8, 4, 3, 2):
            triton_backend.quantize_integers(dense, rows, bits=bits, axis="channel", group_size=64, rotated=rotated)
            size = 64 if width % 64 == 0 else 16
            triton_backend.quantize_integers(dense, rows, bits=bits, axis="token", group_size=size, rotated=rotated)
        triton_backend.quantize_float8(dense, rows, rotated=rotated)
    triton_backend.evict_gather(dense, torch.zeros(8, 50, dtype=torch.int64))
    for softcap in (None, 50.0):
        triton_backend.window_scores(dense[None].repeat(1, 4, 1, 1)[:, :, -64:], dense[None], 0.1, softcap=softcap)


def compiled(operation: Callable[[], object], candidates: int, seen: set[str]) -> Iterator[Row]:
    """What ``operation`` launches that ``seen`` does not hold, for the first ``candidates`` of each of its kernels."""
    for place in range(candidates):
        launches: list[CompiledKernel] = []
        with _compiling(launches), autotune.forcing(lambda kernel, key, among: among[min(place, len(among) - 1)]):  # noqa: B023 - called in this round
            operation()
        for one in launches:
            if one.hash not in seen:
                seen.add(one.hash)
                yield {"kernel": one.src.fn.fn.__name__, "candidate": place, **_usage(one)}


@contextmanager
def _compiling(launches: list[CompiledKernel]) -> Iterator[None]:
    """Compile every launch and run none."""

    def compile_only(self: JITFunction, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        launches.append(run(self, *arguments, grid=grid, warmup=True, **named))

    run, JITFunction.run = JITFunction.run, compile_only
    try:
        yield
    finally:
        JITFunction.run = run


def _usage(kernel: CompiledKernel) -> dict[str, int]:
    """Registers of a thread, bytes spilled, bytes of shared memory, warps, and instructions that matter."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, static, local = (
        int(re.findall(rf"{name}:(\d+)", text)[0]) for name in ("REG", "STACK", "SHARED", "LOCAL")
    )
    assembly = kernel.asm["ptx"]
    return {
        "registers": registers,
        "spilled": stack + local,
        "shared": static + kernel.metadata.shared,
        "warps": kernel.metadata.num_warps,
        "matrix products": len(re.findall(r"mma\.sync|wgmma\.mma_async", assembly)),
        "wide asynchronous copies": len(re.findall(r"cp\.async\.cg\.shared\.global[^;]* 0x10,", assembly)),
    }


def rows(names: Sequence[str], candidates: int) -> Iterator[Row]:
    """The rows of the cases called ``names``, or of all; ``prefill`` is what is not decode attention.

    A kernel that several cases share is a row of the first.
    """
    seen: set[str] = set()
    for name, case in decode_cases(HEAD_DIM).items():
        if not names or name in names:
            for row in compiled(lambda: decode(case), candidates, seen):  # noqa: B023 - called in this round
                yield {"case": name, **row}
    if not names or "prefill" in names:
        for row in compiled(lambda: prefill(HEAD_DIM, torch.bfloat16), candidates, seen):
            yield {"case": "prefill", **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="all if none is named; `prefill` is what is not decode attention")
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="launches of each kernel to count")
    parser.add_argument("--lines", action="store_true", help="print one line of JSON a kernel, and write nothing")
    options = parser.parse_args()
    driver.set_active(_H100())
    found = []
    for row in rows(options.cases, options.candidates):
        found.append(row)
        print(json.dumps(row) if options.lines else _line(row), flush=True)
    if not options.lines:
        from common import write_result

        print(write_result("kernel_code", {"target": "sm_90", "triton": version("triton"), "rows": found}))


def _line(row: Row) -> str:
    return (
        f"{row['case']:32} {row['kernel']:20} {row['candidate']} {row['warps']} warps  {row['registers']:3} registers  "
        f"{row['spilled']:4} spilled  {row['shared']:6} shared"
    )


if __name__ == "__main__":
    main()
