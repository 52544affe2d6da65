"""How many tokens a hashed block of a prompt has, told from the lengths of prompts and their numbers of hashes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from autokv.workload.readers.columns import Columns, Ints

SIZES = (512, 16, 32, 64, 128, 256, 1024, 2048, 4096, 8192, 8, 4, 2, 1)
"""That engines and public traces use, the most usual first."""
FITTING_SHARE = 0.99
"""Of the prompts, whose numbers of hashes are to be those of their lengths."""
MAX_BLOCK_TOKENS = 1 << 20


def block_size(columns: Columns, usual: int) -> int | None:
    """Tokens of a block, ``usual`` if it fits; ``None`` where no size does.

    One that fits all prompts is preferred to one that fits 99 of 100. A size fits where every prompt has as many hashes
    as it has blocks, the last one filled or not, or where every prompt has as many hashes as filled blocks, as engines
    have that cache only those.
    """
    hashed = _hashed(columns)
    if not len(hashed[0]):
        return usual
    shares = {size: _fitting(*hashed, size) for size in _candidates(*hashed, usual)}
    best = max(shares.values())
    return next(size for size, share in shares.items() if share == best) if best >= FITTING_SHARE else None


def first_misfit(columns: Columns, size: int) -> tuple[int, int, int]:
    """(line, tokens, hashes) of the first prompt whose hashes are not those of blocks of ``size`` tokens."""
    tokens, counts = _hashed(columns)
    lines = columns.lines[columns.hash_counts > 0] if columns.hash_counts is not None else columns.lines
    place = int((-(-tokens // size) != counts).argmax())
    return int(lines[place]), int(tokens[place]), int(counts[place])


def _hashed(columns: Columns) -> tuple[Ints, Ints]:
    """Tokens and numbers of hashes of the prompts that have hashes."""
    if columns.hash_counts is None:
        return columns.input_tokens[:0], columns.input_tokens[:0]
    some = columns.hash_counts > 0
    return columns.input_tokens[some], columns.hash_counts[some]


def _candidates(tokens: Ints, counts: Ints, usual: int) -> Iterator[int]:
    yield usual
    yield from SIZES
    # Blocks of any size: the smallest that holds all tokens, and the largest that is always filled.
    filled = tokens / counts
    # Some prompts may be wrong.
    for share in (1.0, FITTING_SHARE):
        yield min(MAX_BLOCK_TOKENS, int(np.ceil(np.quantile(filled, share, method="higher"))))
        yield max(1, int(np.floor(np.quantile(filled, 1 - share, method="lower"))))


def _fitting(tokens: Ints, counts: Ints, size: int) -> float:
    """The share of prompts that blocks of ``size`` tokens fit, the last one counted or not."""
    started, filled = -(-tokens // size) == counts, tokens // size == counts
    return float(max(started.mean(), filled.mean()))
