"""What every engine's worker shares. Runs in the engine's own environment, of which it needs numpy alone.

A worker is called with a task and an output file. The task has the model's ``folder`` and ``gguf``, ``samples`` of
``context`` and ``continuation`` token ids, and ``formats``: the engine's own names of KV-cache formats, the reference
first. The output has the engine's version and, by format, each sample's KL divergence from the reference, its top-1
agreement and the bytes that a token takes; or the engine's refusal.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Judge = Callable[[str], "tuple[list[np.ndarray], float | None]"]
"""A format's name to each sample's log-probabilities ``[continuation, vocabulary]`` and the bytes of a token."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def work(version: str, judge: Callable[[dict[str, Any]], Judge]) -> None:
    """Judge every format of the task in ``argv[1]`` and write ``argv[2]`` after each."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    judged, found, reference = judge(task), {"version": version, "formats": {}}, None
    for name in task["formats"]:
        begin = time.perf_counter()
        try:
            rows, nbytes = judged(name)
        except Exception as error:  # an engine's own refusal, whatever its type
            if reference is None:
                raise
            found["formats"][name] = {"refused": f"{type(error).__name__}: {error}"[:300]}
        else:
            reference = reference or rows
            found["formats"][name] = {**compare(reference, rows), "bytes_per_token": nbytes}
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
        Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


def compare(reference: list[np.ndarray], rows: list[np.ndarray]) -> dict[str, list[float]]:
    """KL divergence and top-1 agreement of every sample."""
    kl, top = [], []
    for full, held in zip(reference, rows, strict=True):
        # Where an engine tells only its most likely tokens, the others are one token; NaN marks what is not told.
        told = ~(np.isnan(full) | np.isnan(held))
        inside = np.where(told, np.exp(full) * (full - held), 0.0).sum(-1)
        rest = [np.maximum(1 - np.where(told, np.exp(side), 0.0).sum(-1), 1e-12) for side in (full, held)]
        complete = told.all(-1)
        kl.append(float(np.where(complete, inside, inside + rest[0] * np.log(rest[0] / rest[1])).mean()))
        top.append(float((np.nanargmax(full, -1) == np.nanargmax(held, -1)).mean()))
    return {"kl_divergence": kl, "top1_agreement": top}
