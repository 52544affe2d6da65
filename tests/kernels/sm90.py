"""Compile what a decode attention launches for sm_90, without a GPU; one line of JSON a kernel.

Run as a script, because whether Triton interprets is settled when it is imported.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel
from triton.runtime.jit import JITFunction

from autokv.kernels.decode_attention.triton import decode_attention
from autokv.kernels.parity import Case, Form, build

TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.uint8: "u8", torch.int64: "i64"}
NAMES = ("REG", "STACK", "SHARED", "LOCAL")
OPTIONS = ("num_warps", "num_stages", "maxnreg")


def compile_launch(kernel: JITFunction, arguments: tuple[Any, ...], named: dict[str, Any]) -> CompiledKernel:
    """What a launch with these arguments would run on an H100, all tensors taken to be aligned."""
    values = dict(zip(kernel.arg_names, arguments, strict=False)) | named
    options = {name: values.pop(name) for name in OPTIONS if values.get(name) is not None}
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        value = values.get(name)
        if kernel.params[place].is_constexpr or value is None:
            signature[name], constants[place,] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name], attributes[place,] = f"*{TYPES[value.dtype]}", [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


@contextmanager
def launches(seen: Callable[[JITFunction, tuple[Any, ...], dict[str, Any]], None]) -> Iterator[None]:
    """Hand every launch to ``seen`` and run none."""

    def record(self: JITFunction, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:  # noqa: ANN401
        seen(self, arguments, named)

    run, JITFunction.run = JITFunction.run, record
    try:
        yield
    finally:
        JITFunction.run = run


def usage(compiled: CompiledKernel) -> dict[str, int]:
    """Registers of a thread, bytes spilled, bytes of shared memory, warps, and instructions that matter."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, static, local = (int(re.findall(rf"{name}:(\d+)", text)[0]) for name in NAMES)
    assembly = compiled.asm["ptx"]
    return {
        "registers": registers,
        "spilled": stack + local,
        "shared": static + compiled.metadata.shared,
        "warps": compiled.metadata.num_warps,
        "matrix products": len(re.findall(r"mma\.sync|wgmma\.mma_async", assembly)),
        "wide asynchronous copies": len(re.findall(r"cp\.async\.cg\.shared\.global[^;]* 0x10,", assembly)),
    }


def cases(head_dim: int) -> dict[str, Case]:
    """Formats as they are used, keys by channel and values by token, each with a window."""
    shape = {"head_dim": head_dim, "group": 4, "lengths": ((130, 130),), "dtype": torch.bfloat16}
    group = 64 if head_dim % 64 == 0 else 16
    forms = {"16 bit": (Form(), Form()), "fp8": (Form(8), Form(8))}
    for bits in (8, 4, 3, 2):
        forms[f"int{bits}"] = Form(bits, "channel", 64), Form(bits, "token", group)
    found = {name: Case(name, *form, held=torch.bfloat16, **shape) for name, form in forms.items()}
    rotated = (Form(4, "channel", 64, rotated=True), Form(4, "token", group, rotated=True))
    found["int4, rotated"] = Case("int4, rotated", *rotated, **shape)
    corrected = (Form(4, "channel", 64, correction=4), Form(4, "token", group, correction=4))
    found["int4, corrected"] = Case("int4, corrected", *corrected, **shape)
    latent = (Form(4, "channel", 64, latent=32), Form(4, "token", 16, latent=32))
    found["int4, latent"] = Case("int4, latent", *latent, **shape)
    found["int4, ragged"] = replace(found["int4"], lengths=((19, 130),))
    found["int4, soft cap, sliding"] = replace(found["int4"], softcap=30.0, sliding_window=64)
    return found


def main(head_dim: int, *names: str) -> None:
    """Compile the ``cases`` called ``names``, or all."""
    for name, case in cases(head_dim).items():
        if names and name not in names:
            continue

        def report(kernel: JITFunction, arguments: tuple[Any, ...], named: dict[str, Any], name: str = name) -> None:
            found = usage(compile_launch(kernel, arguments, named))
            print(json.dumps({"case": name, "kernel": kernel.fn.__name__, **found}), flush=True)

        call = build(case)
        with launches(report):
            decode_attention(
                call.query, call.parts, call.scaling, softcap=call.softcap, sliding_window=call.sliding_window
            )


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
