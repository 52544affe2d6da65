"""The cases that every kernel must get right, held against float64 on the same operands: for tests and benchmarks.

Whatever a kernel may not read is poisoned: flat storage lies between NaN and codes of all ones, and the unused places
of a residual window's buffer are NaN, so that one stray element spoils a whole row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from autokv.kernels import Backend, LowRankResidual, Operands, Packed, Plain, Rows, Side
from autokv.kernels.backend import REFERENCE, TORCH
from autokv.kernels.operands import Axis
from autokv.kernels.parity import LIMIT_16BIT, LIMIT_FLOAT32, Call, difference, rms_ratio
from autokv.kernels.quantize_pack import dequantize

AXES: tuple[Axis, ...] = ("channel", "token")
_POISONED = 8
"""Tokens of poison before and behind flat storage."""


@dataclass(frozen=True)
class Form:
    """How one side of a case is held."""

    bits: int = 16
    """16, 8, 4, 3 or 2; fp8 is 8 bits without an axis."""
    axis: Axis | None = None
    group_size: int = 16
    rotated: bool = False
    latent: int = 0
    """Width of the latent basis; 0 for none."""
    low_rank: int = 0
    """Rank of the low-rank residual; 0 for none."""


@dataclass(frozen=True)
class Case:
    """One decode attention."""

    name: str
    keys: Form = Form()
    values: Form = Form()
    head_dim: int = 64
    group: int = 3
    lengths: tuple[tuple[int, ...], ...] = ((45, 45),)
    """Older tokens of the two rows, part by part."""
    residual_tokens: tuple[int, ...] = (5,)
    """Tokens of the residual window, part by part."""
    dtype: torch.dtype = torch.float32
    """Of the query."""
    held: torch.dtype = torch.float16
    """Of whatever is held in 16 bits."""
    softcap: float | None = None
    sliding_window: int | None = None

    @property
    def limit(self) -> float:
        """Largest RMS ratio that passes."""
        return LIMIT_FLOAT32 if self.dtype == torch.float32 else LIMIT_16BIT


def _formats() -> list[Case]:
    forms: dict[str, Form] = {"16 bit": Form(), "fp8": Form(8)}
    for bits in (8, 4, 3, 2):
        for axis in AXES:
            forms[f"int{bits} by {axis}"] = Form(bits, axis)
    cases = [Case(name, form, form) for name, form in forms.items()]
    cases += [Case(f"{case.name}, bf16 query", case.keys, case.values, dtype=torch.bfloat16) for case in cases]
    return cases


K4, V4, V2 = Form(4, "channel"), Form(4, "token"), Form(2, "token")

CASES: tuple[Case, ...] = (
    *_formats(),
    Case("16 bit in bfloat16", held=torch.bfloat16, dtype=torch.bfloat16),
    Case("keys int4, values int2", K4, V2),
    Case("keys fp8, values 16 bit", Form(8), Form()),
    Case("keys 16 bit, values int8", Form(), Form(8, "token")),
    Case("group of 64 over a partial group", Form(4, "channel", 64), Form(4, "token", 64), lengths=((67, 67),)),
    Case("group of 128", Form(2, "channel", 128), Form(2, "token", 128), head_dim=128, lengths=((131, 131),)),
    *(
        Case(f"head_dim {dim}, int{bits}", Form(bits, "channel"), Form(bits, "token"), dim, lengths=((37, 37),))
        for dim in (80, 96, 128, 256)
        for bits in (8, 4, 3, 2)
    ),
    *(Case(f"head_dim {dim}, 16 bit", head_dim=dim, lengths=((37, 37),)) for dim in (80, 96, 128, 256)),
    *(Case(f"head_dim {dim}, fp8", Form(8), Form(8), head_dim=dim, lengths=((37, 37),)) for dim in (80, 256)),
    Case("one query head for every KV head", K4, V4, group=1),
    Case("group of 8", K4, V4, group=8),
    Case("more queries than a tile", K4, V4, group=37),
    Case("ragged", K4, V4, lengths=((19, 61),)),
    Case("ragged, 16 bit", lengths=((61, 19),)),
    Case("ragged, fp8", Form(8), Form(8), lengths=((3, 61),)),
    Case("a row without older tokens", K4, V4, lengths=((0, 40),)),
    Case("a row without any token", K4, V4, lengths=((0, 40),), residual_tokens=(0,)),
    Case("no older tokens", K4, V4, lengths=((0, 0),)),
    Case("no token", K4, V4, lengths=((0, 0),), residual_tokens=(0,)),
    Case("one token", K4, V4, lengths=((1, 1),), residual_tokens=(0,)),
    Case("one token in the residual window", lengths=((0, 0),), residual_tokens=(1,)),
    Case("no residual window", K4, V4, residual_tokens=(0,)),
    Case("a residual window longer than a tile", K4, V4, lengths=((33, 33),), residual_tokens=(150,)),
    Case("two parts", K4, V4, lengths=((19, 61), (32, 32)), residual_tokens=(0, 9)),
    Case("two parts, 16 bit", lengths=((19, 61), (32, 32)), residual_tokens=(0, 9)),
    Case("two parts, the second empty", K4, V4, lengths=((19, 61), (0, 0)), residual_tokens=(7, 0)),
    Case("rotated", replace(K4, rotated=True), replace(V2, rotated=True)),
    Case("rotated, head_dim 96", replace(K4, rotated=True), replace(V4, rotated=True), head_dim=96),
    Case("rotated, head_dim 80", replace(K4, rotated=True), replace(V4, rotated=True), head_dim=80),
    Case("rotated fp8", Form(8, rotated=True), Form(8, rotated=True)),
    Case("keys rotated alone", replace(K4, rotated=True), V4),
    Case("latent, 16 bit", Form(latent=24), Form(latent=40)),
    Case("latent, int4", replace(K4, latent=32), replace(V4, latent=48), lengths=((19, 61),)),
    Case("latent, odd width", Form(4, "channel", latent=13), Form(3, "channel", latent=7)),
    Case("latent keys alone", replace(K4, latent=16), V4),
    Case("low-rank residual", replace(K4, low_rank=4), replace(V2, low_rank=2)),
    Case("low-rank residual, rotated, ragged", replace(K4, rotated=True, low_rank=3),
         replace(V2, rotated=True, low_rank=5), lengths=((19, 61),)),
    Case("low-rank residual of keys alone", replace(K4, low_rank=8), V4),
    Case("fp8, low-rank residual", Form(8, low_rank=2), Form(8, low_rank=2)),
    Case("soft cap", K4, V4, softcap=2.0),
    Case("sliding window", K4, V4, sliding_window=23),
    Case("sliding window inside the residual window", K4, V4, sliding_window=3),
    Case("sliding window over two parts", K4, V4, lengths=((19, 61), (32, 32)), residual_tokens=(0, 9),
         sliding_window=52),
)  # fmt: skip
"""Decode attentions that every backend must get right; small, because an interpreter may run them."""


def build(case: Case, device: torch.device | str = "cpu") -> Call:
    """The operands of ``case``, poisoned, the same on every device."""
    generator = torch.Generator().manual_seed(sum(case.name.encode()))
    parts = []
    for lengths, recent in zip(case.lengths, case.residual_tokens, strict=True):
        older = Rows.of_lengths(torch.tensor(lengths))
        sides = [_side(form, case, older, recent, generator) for form in (case.keys, case.values)]
        parts.append(Operands(1, len(lengths), case.head_dim, older, *sides))
    query = torch.randn(1, 2 * case.group, case.head_dim, generator=generator).to(case.dtype)
    moved = tuple(_on(part, torch.device(device)) for part in parts)
    return Call(query.to(device), moved, case.head_dim**-0.5, case.softcap, case.sliding_window)


def attention_error(case: Case, backend: Backend, device: torch.device | str = "cpu") -> float:
    """RMS ratio of ``backend``'s output to the float64 reference, or the error of its log-sum-exp if that is larger."""
    expected = build(replace(case, dtype=torch.float32)).run(REFERENCE)
    if case.dtype != torch.float32:
        call = build(case)
        expected = replace(call, query=call.query.float()).run(REFERENCE)
    found = build(case, device).run(backend)
    return difference(found, expected)


def quantize_errors(backend: Backend, device: torch.device | str = "cpu") -> dict[str, float]:
    """RMS ratio of what ``backend`` quantizes, read back, to what PyTorch's operators give for the same tokens."""
    errors = {}
    forms = (Form(8), *(Form(bits, axis) for bits in (8, 4, 3, 2) for axis in AXES))
    for name, lengths, width in (
        ("uniform", (45, 45), 128),
        ("ragged", (19, 61), 64),
        ("a row without tokens", (0, 33), 80),
    ):
        rows = Rows.of_lengths(torch.tensor(lengths))
        flat = torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(width))
        for form, rotated in product(forms, (False, True)):
            found, expected = (
                _quantize(one, form, _on(rows.to_dense(flat).half(), place), _on(rows, place), rotated)
                for one, place in ((backend, torch.device(device)), (TORCH, torch.device("cpu")))
            )
            kind = f"int{form.bits} by {form.axis}" if form.axis else "fp8"
            what = f"{kind}, width {width}, {name}{', rotated' if rotated else ''}"
            back = (rows.to_flat(dequantize(_on(one, torch.device("cpu")), rows)) for one in (found, expected))
            errors[what] = rms_ratio(*back)
    return errors


def window_score_errors(backend: Backend, device: torch.device | str = "cpu") -> dict[str, float]:
    """RMS ratio of ``backend``'s window scores to the float64 reference."""
    errors = {}
    shapes = ((1, 2, 3, 16, 61, 64), (2, 1, 4, 1, 33, 80), (1, 2, 1, 50, 50, 128), (1, 1, 2, 7, 7, 64))
    for batch, kv_heads, group, window, tokens, head_dim in shapes:
        generator = torch.Generator().manual_seed(tokens)
        query = torch.randn(batch, kv_heads * group, window, head_dim, generator=generator).half()
        keys = torch.randn(batch, kv_heads, tokens, head_dim, generator=generator).half()
        for softcap in (None, 2.0):
            expected = REFERENCE.window_scores(query, keys, head_dim**-0.5, softcap=softcap)
            found = backend.window_scores(query.to(device), keys.to(device), head_dim**-0.5, softcap=softcap)
            errors[f"{window} queries, {tokens} tokens of {head_dim}, softcap {softcap}"] = rms_ratio(found, expected)
    return errors


def gather_errors(backend: Backend, device: torch.device | str = "cpu") -> dict[str, float]:
    """RMS ratio of ``backend``'s compaction to the reference: 0 unless a token is missing."""
    errors = {}
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        generator = torch.Generator().manual_seed(7)
        tokens = torch.randn(3, 41, 80, generator=generator).to(dtype)
        index = torch.randint(41, (3, 17), generator=generator)
        found = backend.evict_gather(tokens.to(device), index.to(device))
        errors[str(dtype)] = rms_ratio(found, REFERENCE.evict_gather(tokens, index))
    return errors


OTHER_CHECKS: dict[str, Callable[[Backend, torch.device | str], dict[str, float]]] = {
    "quantize_pack": quantize_errors,
    "window_scores": window_score_errors,
    "evict_gather": gather_errors,
}
"""The operations besides decode attention; an error passes up to :data:`LIMIT_FLOAT32`."""


def _side(form: Form, case: Case, older: Rows, recent: int, generator: torch.Generator) -> Side:
    count, width = older.count, form.latent or case.head_dim
    tokens = int(older.lengths.sum())
    # A channel that is far from zero, as keys have it.
    flat = torch.randn(tokens, width, generator=generator)
    flat[:, 0] += 6
    buffer = torch.full((count, recent + 3, case.head_dim), torch.nan, dtype=case.held)
    buffer[:, :recent] = torch.randn(count, recent, case.head_dim, generator=generator).to(case.held)
    basis = residual = None
    if form.latent:
        basis = torch.linalg.qr(torch.randn(count, case.head_dim, width, generator=generator)).Q.half()
    if form.low_rank:
        left = _poison(torch.randn(tokens, form.low_rank, generator=generator).to(case.held) / 4)
        right = torch.linalg.qr(torch.randn(count, width, form.low_rank, generator=generator)).Q.half()
        residual = LowRankResidual(left, right)
    if form.bits == 16:
        packed: Packed = Plain(flat.to(case.held))
    else:
        packed = _quantize(TORCH, form, older.to_dense(flat), older, rotated=False)
    return Side(_each(packed, _poison), buffer[:, :recent], form.rotated, basis, residual)


def _quantize(backend: Backend, form: Form, dense: Tensor, rows: Rows, rotated: bool) -> Packed:
    if form.axis is None:
        return backend.quantize_float8(dense, rows, rotated=rotated)
    return backend.quantize_integers(
        dense, rows, bits=form.bits, axis=form.axis, group_size=form.group_size, rotated=rotated
    )


def _poison(flat: Tensor) -> Tensor:
    """The same tensor amid memory that nobody may read."""
    poison = 255 if flat.dtype == torch.uint8 else torch.nan
    around = torch.full((_POISONED, *flat.shape[1:]), poison, dtype=flat.dtype)
    return torch.cat([around, flat, around])[_POISONED : _POISONED + len(flat)]


def _on(value: Any, device: torch.device) -> Any:
    """``value`` on ``device``, together with the poison around it."""

    def move(tensor: Tensor) -> Tensor:
        if tensor.device == device:
            return tensor
        whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        return whole.to(device).as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())

    return _each(value, move)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _each(getattr(value, field.name), change) for field in fields(value)})
    return value
