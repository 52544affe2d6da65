"""The assembly that takes codes out of words: no interpreter runs it, so a small one here does."""

from __future__ import annotations

import re

import numpy as np
import pytest

from autokv.kernels.decode_attention.triton import codes
from autokv.kernels.reference import float8_value

Words = np.ndarray

WORDS = np.arange(65536, dtype=np.uint32)
BOTH = WORDS | np.roll(WORDS, 12345) << 16
"""Every word in the low half, and every word in the high half."""
HIGH = np.roll(BOTH, 777)


def run(assembly: str, *inputs: Words) -> Words:
    """What inline ``assembly`` leaves in ``$0``."""
    registers: dict[str, Words] = {f"${place}": value for place, value in enumerate(inputs, start=1)}

    def value(name: str) -> Words:
        return registers[name] if name in registers else np.full_like(inputs[0], int(name, 16 if "0x" in name else 10))

    for line in assembly.strip("{ }").split(";"):
        operation, _, operands = line.strip().partition(" ")
        names = [name.strip() for name in operands.split(",")]
        match operation.split(".")[0]:
            case "":
                continue
            case "mov":
                result = value(names[1])
            case "shr":
                result = value(names[1]) >> value(names[2])
            case "shl":
                result = value(names[1]) << value(names[2])
            case "and":
                result = value(names[1]) & value(names[2])
            case "lop3":
                assert names[4] == "0xea", "only (a & b) | c is known here"
                result = (value(names[1]) & value(names[2])) | value(names[3])
            case "prmt":
                both = np.stack([value(names[1 + place // 4]) >> 8 * (place % 4) & 0xFF for place in range(8)])
                selector = int(names[3], 16)
                result = sum(both[selector >> 4 * place & 7] << 8 * place for place in range(4))
            case unknown:
                pytest.fail(f"{unknown} in {assembly}")
        registers[names[0]] = np.asarray(result, np.uint32)
    return registers["$0"]


def halves(words: Words) -> tuple[Words, Words]:
    """The low and the high 16 bits as float16."""
    return (words & 0xFFFF).astype(np.uint16).view(np.float16), (words >> 16).astype(np.uint16).view(np.float16)


def parts(words: Words) -> tuple[Words, Words]:
    return words & 0xFFFF, words >> 16


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (4, 0), (4, 1), (2, 0), (2, 1), (2, 2), (2, 3)])
@pytest.mark.parametrize("byte", [0, 1])
def test_integers(bits: int, shift: int, byte: int) -> None:
    name = f"INT8_{byte}" if bits == 8 else f"INT{bits}_{shift}{byte}"
    for found, word in zip(halves(run(getattr(codes, name).value, BOTH)), parts(BOTH), strict=True):
        code = word >> 8 * byte >> bits * shift & (1 << bits) - 1
        assert np.array_equal(found, 1024 + code.astype(np.float64) * 2 ** (bits * shift))


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("byte", [0, 1])
def test_three_bits(shift: int, byte: int) -> None:
    assembly = getattr(codes, f"INT3_{shift}{byte}").value
    for found, word, high in zip(halves(run(assembly, BOTH, HIGH)), parts(BOTH), parts(HIGH), strict=True):
        code = (word >> 8 * byte >> 2 * shift & 3) + 4 * (high >> 8 * byte >> 2 * shift & 1)
        assert np.array_equal(found, 1024 + code.astype(np.float64) * 4**shift)


@pytest.mark.parametrize("byte", [0, 1])
def test_float8(byte: int) -> None:
    # The two patterns of e4m3 that are no numbers are never stored.
    values = np.array([float8_value(code) for code in range(256)])
    for found, word in zip(halves(run((codes.FP8_0, codes.FP8_1)[byte].value, BOTH)), parts(BOTH), strict=True):
        assert np.array_equal(found.astype(np.float64) * 256, values[word >> 8 * byte & 0xFF])


def test_halves_of_pairs() -> None:
    low, high = run(codes.LOW_HALF.value, BOTH, HIGH), run(codes.HIGH_HALF.value, BOTH, HIGH)
    assert np.array_equal(low, (BOTH & 0xFFFF) | (HIGH & 0xFFFF) << 16)
    assert np.array_equal(high, (BOTH >> 16) | (HIGH >> 16 << 16))


def test_every_assembly_is_tested() -> None:
    names = {name for name in vars(codes) if re.fullmatch(r"INT\d_\d+|FP8_\d|(LOW|HIGH)_HALF", name)}
    assert len(names) == 2 + 4 + 8 + 8 + 2 + 2
