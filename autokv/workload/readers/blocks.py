"""How many tokens a hashed block of a prompt has, told from the lengths of prompts and their numbers of hashes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import Columns, Ints, counted
from autokv.workload.readers.reader import ReadOptions, command
from autokv.workload.source import Source

SIZES = (512, 16, 32, 64, 128, 256, 1024, 2048, 4096, 8192, 8, 4, 2, 1)
"""That engines and public traces use, the most usual first."""
FITTING_SHARE = 0.99
"""Of the prompts, whose numbers of hashes are to be those of their lengths."""
MAX_BLOCK_TOKENS = 1 << 20


def in_blocks(columns: Columns, usual: int, options: ReadOptions, source: Source) -> Columns:
    """``columns`` with the size of their hashed blocks: what the options say, else what fits, ``usual`` first.

    Raises:
        WorkloadError: the hashes are not those of blocks of any size, or are more than the options' blocks while blocks
            of another size fit.
    """
    if columns.hashes is None:
        return columns
    size, said = fitting_size(columns, usual), options.block_tokens
    if said is not None:
        return _as_said(columns, said, size, source)
    if size is None:
        tokens, counts = _hashed(columns)
        raise _misfit(
            columns,
            -(-tokens // usual) != counts,
            "and blocks of no size fit all rows",
            f"say the size of a block: {command(source.path, '--hash-block-size', str(usual))}",
            source,
        )
    if size == usual:
        return replace(columns, block_tokens=size)
    note = f"hashes are of blocks of {size} tokens, as the lengths say (--hash-block-size says another size)"
    return replace(columns, block_tokens=size, notes=(*columns.notes, note))


def _as_said(columns: Columns, said: int, fitting: int | None, source: Source) -> Columns:
    """Blocks of ``said`` tokens, unless prompts have more hashes than that while blocks of ``fitting`` tokens fit.

    Fewer hashes than blocks may be those of the beginning of a prompt, which is worth a note.
    """
    tokens, counts = _hashed(columns)
    if not len(tokens):
        return replace(columns, block_tokens=said)
    many = counts > -(-tokens // said)
    if fitting is not None and many.mean() > 1 - FITTING_SHARE:
        raise _misfit(
            columns,
            many,
            f"more than they have blocks of {said} tokens",
            f"blocks of {fitting} tokens fit: {command(source.path, '--hash-block-size', str(fitting))}",
            source,
        )
    fewer = float((counts < tokens // said).mean())
    if fewer <= 1 - FITTING_SHARE:
        return replace(columns, block_tokens=said)
    others = "" if fitting is None else f"; blocks of {fitting} tokens fit the lengths"
    note = f"warning: {fewer:.0%} of the prompts have fewer hashes than blocks of {said} tokens{others}"
    return replace(columns, block_tokens=said, notes=(*columns.notes, note))


def _misfit(columns: Columns, wrong: NDArray[np.bool_], why: str, remedy: str, source: Source) -> WorkloadError:
    """About the first of the prompts with hashes that is ``wrong``."""
    tokens, counts = _hashed(columns)
    lines = columns.lines[columns.hash_counts > 0] if columns.hash_counts is not None else columns.lines
    place = int(wrong.argmax())
    what = f"{counted(int(tokens[place]), 'token')} have {counted(int(counts[place]), 'hash')}"
    return WorkloadError(f"{what}, {why}", field=f"{source.path}:{lines[place]}", remedy=remedy)


def fitting_size(columns: Columns, usual: int) -> int | None:
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
