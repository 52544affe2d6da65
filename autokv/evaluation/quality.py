"""How far a compressed cache's predictions are from the full cache's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NEGATIVE_LOSS = 0.1
"""θ: a sample that the full cache gets right and that loses more than this of its task score is a negative sample."""
RIGHT = 0.5
"""Task score from which the full cache is said to get a sample right."""


@dataclass(frozen=True)
class Reference:
    """The full cache's predictions over a continuation."""

    tokens: tuple[int, ...]
    log_probs: Tensor
    """``[tokens, vocabulary]`` float32, as ``probs``."""
    probs: Tensor
    likeliest: Tensor
    """``[tokens]``: the argmax."""

    @classmethod
    def of(cls, tokens: Sequence[int], logits: Tensor) -> Reference:
        """From logits ``[tokens, vocabulary]``."""
        log_probs = torch.log_softmax(logits, dim=-1)
        return cls(tuple(tokens), log_probs, log_probs.exp(), log_probs.argmax(dim=-1))


def compare(reference: Reference, logits: Tensor) -> dict[str, float]:
    """``kl_divergence``, ``top1_agreement`` and ``nll_delta`` of one sequence.

    Args:
        reference: the full cache's predictions.
        logits: ``[tokens, vocabulary]`` float32.

    The row of token i predicts token i + 1, so the last row has a distribution to compare but no target.
    """
    targets = torch.tensor(reference.tokens[1:], device=logits.device)[:, None]
    agreement = (logits.argmax(dim=-1) == reference.likeliest).float().mean()
    log_probs = torch.log_softmax(logits, dim=-1)
    nll_delta = (reference.log_probs[:-1].gather(1, targets) - log_probs[:-1].gather(1, targets)).mean()
    # The difference comes first: small divergences would drown in the rounding of two large sums.
    divergence = torch.linalg.vecdot(reference.probs, reference.log_probs - log_probs)
    return {
        # A divergence is never negative; rounding can leave -1e-9. NaN stays NaN.
        "kl_divergence": float(divergence.mean().clamp_min(0.0)),
        "top1_agreement": float(agreement),
        "nll_delta": float(nll_delta) if len(targets) else 0.0,
    }


def compare_answers(full: Sequence[int], answer: Sequence[int]) -> dict[str, float]:
    """``output_length_ratio`` of two free-running answers."""
    return {"output_length_ratio": max(len(answer), 1) / max(len(full), 1)}


def compare_scores(full: float, score: float) -> dict[str, float]:
    """``task_score``, and whether this is a negative sample where the full cache gets it right."""
    metrics = {"task_score": score}
    if full >= RIGHT:
        metrics["negative_sample_rate"] = float(full - score > NEGATIVE_LOSS)
    return metrics
