"""Decode attention over one layer's cache on CPU: what could run behind the ``cpu`` backend, side by side.

Every contender is first held against float64 attention over the same operands, then timed in turns with the others,
with the cache still in the processor's memory (warm) and after it was driven out (cold).

On one thread the clock is that of the processor time which the thread took, so that a busy machine disturbs it little;
on several it is the wall clock, which wants a quiet machine.

    python benchmarks/cpu_attention.py [--threads 2] [--tokens 8192] [--rounds 15]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from autokv.kernels import Backend, Operands, Packed, Plain, Rows, Side, held_tensors
from autokv.kernels.backend import CPU, TORCH
from autokv.kernels.native import library
from autokv.kernels.operands import Axis
from autokv.kernels.parity import Call, attention_error_at_size
from autokv.kernels.quantize_pack.packing import pack
from common import percentiles, write_result

KV_HEADS, GROUP, HEAD_DIM = 8, 4, 128
GROUP_SIZE = 64
LIMIT = 1e-2
"""Largest RMS ratio that passes: ATen's products round scores and weights to bfloat16."""
SCRATCH_BYTES = 96 << 20
"""Larger than any last-level cache that this is run on."""


@dataclass(frozen=True)
class Contender:
    """One way of computing the attention."""

    name: str
    format: str
    run: Callable[[], Tensor]
    """Output ``[1, query_heads, head_dim]``."""
    held_bytes: int
    error: float
    """RMS ratio to float64 attention over the same operands."""
    compile_seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    keys, values = torch.randn(2, KV_HEADS, arguments.tokens, HEAD_DIM)
    keys[:, :, ::16] += 4
    query = torch.randn(1, KV_HEADS * GROUP, HEAD_DIM)
    contenders: list[Contender] = []
    left_out: dict[str, str] = {}
    for make in (_baseline, _ours, _inductor, _aten):
        for name, made in make(query, keys, values).items():
            if isinstance(made, Contender):
                contenders.append(made)
            else:
                left_out[name] = made
    timings = {state: _time(contenders, arguments.rounds, state == "cold") for state in ("warm", "cold")}
    rows = [_row(contender, timings) for contender in contenders]
    for row in rows:
        print(f"{row['name']:<24}{row['format']:<10}{_shown(row)}  error {row['error']:.1e}")
    for name, reason in left_out.items():
        print(f"{name}: left out, {reason}")
    shape = {"tokens": arguments.tokens, "kv_heads": KV_HEADS, "group": GROUP, "head_dim": HEAD_DIM}
    result = {
        "shape": {**shape, "group_size": GROUP_SIZE, "rounds": arguments.rounds},
        "clock": "processor time" if arguments.threads == 1 else "wall",
        "compiler": library().compiler,
        "contenders": rows,
        "left_out": left_out,
    }
    print(write_result("cpu_attention", result))


def _shown(row: dict[str, Any]) -> str:
    parts = []
    for state in ("warm", "cold"):
        times, speedup = row[state]["ms"], row[state]["speedup"]
        ratio = f"{speedup['p50']:5.2f}x" if speedup else "wrong"
        parts.append(f"{state} {times['p5']:6.2f} {times['p50']:6.2f} {times['p95']:6.2f} ms {ratio}")
    return "  ".join(parts)


def _baseline(query: Tensor, keys: Tensor, values: Tensor) -> dict[str, Contender | str]:
    held = keys.bfloat16()[None], values.bfloat16()[None]
    return {
        "sdpa": _checked(
            "PyTorch SDPA, packed", "bf16", lambda: TORCH.attention_16bit(query, *held, HEAD_DIM**-0.5), query, held
        )
    }


def _ours(query: Tensor, keys: Tensor, values: Tensor) -> dict[str, Contender | str]:
    found: dict[str, Contender | str] = {}
    backends: dict[str, Backend] = {"eager PyTorch": TORCH}
    if library().decode_attention is None:
        found["C"] = str(library().reason)
    else:
        backends["C"] = CPU
    for label in ("bf16", "fp8", "int8", "int4", "int3", "int2"):
        operands = _operands(keys, values, label)
        call = Call(query, (operands,), HEAD_DIM**-0.5)
        for name, backend in backends.items():
            error = attention_error_at_size(call, backend)
            run = partial(_output, call, backend)
            found[f"{name}, {label}"] = Contender(name, label, run, _bytes(operands), error)
    return found


def _operands(keys: Tensor, values: Tensor, label: str) -> Operands:
    """Keys by channel, values by token, no window."""
    rows = Rows(KV_HEADS, keys.shape[1])
    window = torch.empty(KV_HEADS, 0, HEAD_DIM, dtype=torch.bfloat16)

    def held(tokens: Tensor, axis: Axis) -> Packed:
        if label == "bf16":
            return Plain(rows.to_flat(tokens.bfloat16()))
        if label == "fp8":
            return TORCH.quantize_float8(tokens, rows)
        return TORCH.quantize_integers(tokens, rows, bits=int(label[3:]), axis=axis, group_size=GROUP_SIZE)

    sides = Side(held(keys, "channel"), window), Side(held(values, "token"), window)
    return Operands(1, KV_HEADS, HEAD_DIM, rows, *sides)


def _inductor(query: Tensor, keys: Tensor, values: Tensor) -> dict[str, Contender | str]:
    """``torch.compile`` of the formula: scales and minima per token and group of channels."""
    found: dict[str, Contender | str] = {}
    for bits in (8, 4):
        sides = [_by_token(side, bits) for side in (keys, values)]
        compiled = torch.compile(partial(_formula, bits), dynamic=False)
        held = [tensor for side in sides for tensor in side]
        name = f"Inductor, int{bits}"
        started = time.perf_counter()
        try:
            compiled(query, *held)
        except Exception as error:
            found[name] = str(error).splitlines()[0]
            continue
        seconds = time.perf_counter() - started
        dequantized = [_dequantize(*side, bits=bits) for side in sides]
        found[name] = _checked(
            "Inductor C++",
            f"int{bits}",
            partial(compiled, query, *held),
            query,
            held,
            dequantized,
            seconds,
        )
    return found


def _formula(bits: int, query: Tensor, *held: Tensor) -> Tensor:
    keys, values = (_dequantize(*held[place : place + 3], bits=bits) for place in (0, 3))
    grouped = query.view(KV_HEADS, GROUP, HEAD_DIM)
    weights = (grouped @ keys.mT * HEAD_DIM**-0.5).softmax(dim=-1)
    output: Tensor = weights @ values
    return output.view(query.shape)


def _by_token(side: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    shaped = side.view(*side.shape[:2], -1, GROUP_SIZE)
    minimum = shaped.amin(dim=3, keepdim=True).half()
    scale = ((shaped.amax(dim=3, keepdim=True) - minimum) / (2**bits - 1)).half()
    codes = ((shaped - minimum) / scale).round().clamp(0, 2**bits - 1).to(torch.uint8).view(side.shape)
    return pack(codes, bits), scale, minimum


def _dequantize(packed: Tensor, scale: Tensor, minimum: Tensor, *, bits: int) -> Tensor:
    codes = packed if bits == 8 else torch.cat([packed & 15, packed >> 4], dim=-1)
    shaped = codes.view(*codes.shape[:2], -1, GROUP_SIZE)
    dequantized: Tensor = shaped.float() * scale.float() + minimum.float()
    return dequantized.view(codes.shape)


def _aten(query: Tensor, keys: Tensor, values: Tensor) -> dict[str, Contender | str]:
    """ATen's products with packed weights, which need values stored channel by channel, hence rewritten to append."""
    grouped = (query.view(KV_HEADS, GROUP, HEAD_DIM) * HEAD_DIM**-0.5).bfloat16()
    sides = [side.contiguous() for side in (keys, values.mT)]
    eights, fours = [_symmetric(side) for side in sides], [_four_bits(side) for side in sides]

    def eight() -> Tensor:
        outputs = []
        for row in range(KV_HEADS):
            (key, key_scale), (value, value_scale) = ((codes[row], scale[row]) for codes, scale in eights)
            weights = torch._weight_int8pack_mm(grouped[row], key, key_scale).float().softmax(dim=-1)
            outputs.append(torch._weight_int8pack_mm(weights.bfloat16(), value, value_scale))
        return torch.stack(outputs).view(query.shape)

    def four() -> Tensor:
        outputs = []
        for row in range(KV_HEADS):
            (key, key_scale), (value, value_scale) = ((codes[row], scale[row]) for codes, scale, _ in fours)
            scores = torch._weight_int4pack_mm_for_cpu(grouped[row], key, GROUP_SIZE, key_scale)
            weights = scores.float().softmax(dim=-1).bfloat16()
            outputs.append(torch._weight_int4pack_mm_for_cpu(weights, value, GROUP_SIZE, value_scale))
        return torch.stack(outputs).view(query.shape)

    found: dict[str, Contender | str] = {}
    for name, run, held, back in (
        ("int8", eight, [t for side in eights for t in side], [c.float() * s.float()[..., None] for c, s in eights]),
        ("int4", four, [t for side in fours for pair in side[:2] for t in pair], [side[2] for side in fours]),
    ):
        try:
            run()
        except (RuntimeError, AttributeError) as error:
            found[f"ATen, {name}"] = str(error).splitlines()[0]
        else:
            found[f"ATen, {name}"] = _checked("ATen packed matmul", name, run, query, held, [back[0], back[1].mT])
    return found


def _symmetric(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 and bfloat16 scales of ``[rows, n, k]``, one scale for each n."""
    scale = (weight.abs().amax(dim=2) / 127).bfloat16()
    return (weight / scale.float()[..., None]).round().clamp(-127, 127).to(torch.int8), scale


def _four_bits(weight: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Packed int4, scales with zeros, and what they stand for, of ``[rows, n, k]`` in groups along k."""
    packed, scales, back = [], [], []
    for one in weight:
        shaped = one.view(len(one), -1, GROUP_SIZE)
        low = shaped.amin(dim=2)
        scale = ((shaped.amax(dim=2) - low) / 15).bfloat16()
        zero = (low + 8 * scale.float()).bfloat16()
        codes = ((shaped - zero.float()[..., None]) / scale.float()[..., None] + 8).round().clamp(0, 15)
        packed.append(torch._convert_weight_to_int4pack_for_cpu(codes.view(one.shape).int(), 2))
        scales.append(torch.stack([scale, zero], dim=2).transpose(0, 1).contiguous())
        back.append(((codes - 8) * scale.float()[..., None] + zero.float()[..., None]).view(one.shape))
    return packed, scales, torch.stack(back)


def _checked(
    name: str,
    label: str,
    run: Callable[[], Tensor],
    query: Tensor,
    held: Any,
    stands_for: Any = None,
    seconds: float = 0.0,
) -> Contender:
    """A contender that computes over ``stands_for`` (``held`` itself by default): keys and values, any float dtype."""
    keys, values = (side.double().view(KV_HEADS, -1, HEAD_DIM) for side in (stands_for or held))
    exact = scaled_dot_product_attention(query.double().view(KV_HEADS, GROUP, HEAD_DIM), keys, values).view(query.shape)
    error = ((run().double() - exact).norm() / exact.norm()).item()
    return Contender(name, label, run, sum(t.numel() * t.itemsize for t in held), error, seconds)


def _output(call: Call, backend: Backend) -> Tensor:
    return call.run(backend).output


def _bytes(operands: Operands) -> int:
    return sum(tensor.numel() * tensor.itemsize for tensor in held_tensors(operands))


def _time(contenders: list[Contender], rounds: int, cold: bool) -> dict[str, list[float]]:
    """Milliseconds of every contender, one after the other in every round."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    scratch = torch.zeros(SCRATCH_BYTES // 4)
    found: dict[str, list[float]] = {f"{one.name} {one.format}": [] for one in contenders}
    for number in range(rounds + 1):
        for one in contenders:
            if cold:
                scratch.add_(1)
            else:
                one.run()
            started = clock()
            one.run()
            if number:
                found[f"{one.name} {one.format}"].append((clock() - started) * 1e3)
    return found


def _row(contender: Contender, timings: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": contender.name,
        "format": contender.format,
        "error": contender.error,
        "held_bytes": contender.held_bytes,
        "compile_seconds": round(contender.compile_seconds, 2),
    }
    for state, found in timings.items():
        times = found[f"{contender.name} {contender.format}"]
        baseline = found["PyTorch SDPA, packed bf16"]
        ratios = percentiles([theirs / ours for theirs, ours in zip(baseline, times, strict=True)])
        row[state] = {
            "ms": percentiles(times),
            # No speed from a wrong result.
            "speedup": ratios if contender.error <= LIMIT else None,
            "gigabytes_per_s": contender.held_bytes / percentiles(times)["p50"] / 1e6,
        }
    return row


if __name__ == "__main__":
    main()
