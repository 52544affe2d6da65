"""Judging configurations on a model: prefill once, compress many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any

import torch
from torch import Tensor

from autokv import settings
from autokv.compression import statistics_needed
from autokv.compression.context import StatisticsNeeded
from autokv.config import CompressionConfig
from autokv.errors import AutoKVError, ConfigError, ModelError, PromptError
from autokv.evaluation.candidate import Candidate, apply
from autokv.evaluation.continuation import FullContext, continuation_logits, greedy
from autokv.evaluation.latency import AttentionTimer
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.quality import Reference, compare, compare_answers, compare_scores
from autokv.evaluation.snapshot import Snapshot, take_snapshot
from autokv.evaluation.tasks import grade
from autokv.kernels import backend
from autokv.models import LoadedModel, ModelFacts
from autokv.models.context import crosses
from autokv.runtime.attention import install

SHARED_LOGIT_BYTES = 1 << 28
"""Candidates share a forward pass as long as their logits stay under this."""


def needs_of(configs: Iterable[CompressionConfig]) -> StatisticsNeeded:
    """What of the prefill ``configs`` need, all together."""
    return reduce(or_, map(statistics_needed, configs), StatisticsNeeded())


class _Sample:
    """One prompt with everything that no candidate changes."""

    def __init__(
        self, model: LoadedModel, snapshot: Snapshot, length: int, stop: frozenset[int], generate: bool
    ) -> None:
        self.snapshot, full = snapshot, FullContext(snapshot.next_logits)
        prompt = snapshot.prompt
        self.answer: list[int] = []
        if prompt.continuation is None or generate:
            self.answer = greedy(model, snapshot, [full], length, stop)[0]
        tokens = prompt.continuation or tuple(self.answer) or (int(snapshot.next_logits.argmax()),)
        logits = continuation_logits(model, snapshot, tokens, [full])[0]
        _check_numbers(model, torch.cat([snapshot.next_logits[None], logits]))
        self.reference = Reference.of(tokens, logits)
        self.baseline_us: dict[int, float] = {}
        """By batch: what one layer's 16-bit attention took when it was first timed."""
        self.new_tokens = max(len(tokens), length if generate else 0)
        """That every candidate is continued by."""
        self.facts = {"id": prompt.id, "kind": prompt.kind, "context_tokens": snapshot.tokens}


class Evaluator:
    """Judges configurations against the full cache on fixed prompts.

    Every prompt is prefilled once, when the evaluator is made. A configuration's continuation is what
    :class:`autokv.CompressedCache` gives for the same tokens: those that leave the residual window are compressed.

    Args:
        model: the model; its attention is replaced by AutoKV's.
        prompts: at least one.
        continuation_tokens: length of generated continuations.
        needs: what the configurations to come need of the prefill, see :func:`needs_of`.
        timed: measure ``compress_us`` on every prompt, ``attention_us`` and its baselines on the shortest, the median
            and the longest context.
        batch: sequences that decode attention is timed over, as far as memory goes.
        generate: also let every candidate answer prompts without a completion, and tasks, on its own.
        check: called before every prompt, when it is prefilled and whenever it is judged; may raise to stop.

    Raises:
        ModelError: the model attends otherwise than its configuration says, or gives NaN.
        PromptError: a prompt and its continuation do not fit the model's context.
    """

    def __init__(
        self,
        model: LoadedModel,
        prompts: Sequence[Prompt],
        continuation_tokens: int,
        needs: StatisticsNeeded,
        *,
        timed: bool = True,
        batch: int = 1,
        generate: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        _check_lengths(prompts, model.facts, continuation_tokens)
        install(model.model)
        self._model = model
        self._length = continuation_tokens
        self._generate = generate
        self._check = check
        self._stop = stop_tokens(model)
        self._backend = backend(model.device, settings.current().kernels)
        self._samples: list[_Sample] = []
        for prompt in prompts:
            check()
            snapshot = take_snapshot(model, prompt, needs, self._backend)
            generated = generate and prompt.kind != "text"
            self._samples.append(_Sample(model, snapshot, continuation_tokens, self._stop, generated))
        self._batch = batch
        self._timed = _spread_of(self._samples) if timed else []
        self._timer = AttentionTimer(self._backend, model.device) if timed else None
        vocabulary = model.facts.vocab_size
        longest = max(len(sample.reference.tokens) for sample in self._samples)
        self._share = max(1, SHARED_LOGIT_BYTES // (4 * vocabulary * longest))

    def evaluate(self, configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        """Judge ``configs``; those that fail give their error in the same place."""
        results: list[Measurement | AutoKVError] = []
        for start in range(0, len(configs), self._share):
            results += self._judge(configs[start : start + self._share])
        return results

    def _judge(self, configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        errors: dict[int, AutoKVError] = {}
        rows: dict[int, list[dict[str, Any]]] = {index: [] for index in range(len(configs))}
        for sample in self._samples:
            self._check()
            candidates: dict[int, Candidate] = {}
            for index, config in enumerate(configs):
                if index not in errors:
                    try:
                        candidates[index] = apply(self._model, sample.snapshot, config, sample.new_tokens)
                    except (AutoKVError, RuntimeError, ValueError, MemoryError) as error:
                        errors[index] = as_error(error)
            if candidates:
                judged = self._judge_sample(sample, list(candidates.values()))
                for index, metrics in zip(candidates, judged, strict=True):
                    if math.isfinite(metrics["kl_divergence"]):
                        rows[index].append({**sample.facts, **metrics})
                    else:
                        errors[index] = ConfigError(
                            f"gives NaN on {sample.snapshot.prompt.id}",
                            field="pipeline",
                            remedy="choose another configuration",
                        )
        return [
            errors.get(index) or Measurement.of_samples(config, rows[index]) for index, config in enumerate(configs)
        ]

    def _judge_sample(self, sample: _Sample, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        model, snapshot = self._model, sample.snapshot
        logits = continuation_logits(model, snapshot, sample.reference.tokens, candidates)
        metrics = [compare(sample.reference, row) for row in logits]
        for row, candidate in zip(metrics, candidates, strict=True):
            row.update(candidate.size())
        if self._generate and sample.answer:
            self._judge_answers(sample, candidates, metrics)
        if self._timer is not None:
            timed = [
                (candidate, row) for candidate, row in zip(candidates, metrics, strict=True) if candidate.compressed
            ]
            for candidate, row in timed:
                if candidate.compress_us is not None:
                    row["compress_us"] = candidate.compress_us
            if sample in self._timed and timed:
                self._time(self._timer, sample, *zip(*timed, strict=True))
        return metrics

    def _judge_answers(
        self, sample: _Sample, candidates: Sequence[Candidate], metrics: Sequence[dict[str, float]]
    ) -> None:
        prompt = sample.snapshot.prompt
        answers = greedy(self._model, sample.snapshot, candidates, self._length, self._stop)
        for row, answer in zip(metrics, answers, strict=True):
            row.update(compare_answers(sample.answer, answer))
            if prompt.is_graded:
                full, compressed = (
                    grade(str(self._model.tokenizer.decode(ids, skip_special_tokens=True)), prompt)
                    for ids in (sample.answer, answer)
                )
                row.update(compare_scores(full, compressed))

    def _time(
        self,
        timer: AttentionTimer,
        sample: _Sample,
        candidates: Sequence[Candidate],
        metrics: Sequence[dict[str, float]],
    ) -> None:
        layers = sample.snapshot.full_layers
        chosen = sorted({0, len(layers) // 2, len(layers) - 1})
        with torch.inference_mode():
            times = timer.time(
                [layers[index] for index in chosen],
                [[candidate.compressed[index] for index in chosen] for candidate in candidates],
                self._batch,
                sample.baseline_us,
            )
        usual = times.baseline_us
        moved = times.baseline.median / usual if usual else 1.0
        for row, timing in zip(metrics, times.candidates, strict=True):
            row.update(batch=times.batch, attention_baseline_us=usual, attention_baseline_moved=moved)
            row["attention_baseline_us_spread"] = times.baseline.spread / (moved or 1.0)
            for name, one in {"attention_us": timing, "attention_fp8_us": times.float8}.items():
                if one is not None:
                    row[name], row[f"{name}_spread"] = one.median, one.spread


def _spread_of(samples: Sequence[_Sample]) -> list[_Sample]:
    """The samples of the shortest, the median and the longest context, each once."""
    ordered = sorted(samples, key=lambda sample: sample.snapshot.tokens)
    return [ordered[place] for place in sorted({0, len(ordered) // 2, len(ordered) - 1})]


def stop_tokens(model: LoadedModel) -> frozenset[int]:
    """Tokens that end an answer."""
    generation = getattr(model.model, "generation_config", None)
    stop = getattr(generation, "eos_token_id", None)
    stop = model.tokenizer.eos_token_id if stop is None else stop
    return frozenset(stop if isinstance(stop, list) else [] if stop is None else [stop])


def _check_numbers(model: LoadedModel, logits: Tensor) -> None:
    """Refuse a model whose full cache already gives no predictions to compare with."""
    if logits.isnan().any():
        raise ModelError(
            f"gives NaN in {str(model.dtype).removeprefix('torch.')}, before anything is compressed",
            field=model.name,
            remedy="check its weights" if model.dtype == torch.float32 else "use --dtype float32, or check its weights",
        )


def _check_lengths(prompts: Sequence[Prompt], facts: ModelFacts, continuation_tokens: int) -> None:
    limit = facts.context_tokens
    if not prompts:
        raise PromptError("there is no prompt to evaluate", remedy="give --text, --prompts or --tasks")
    for prompt in prompts:
        following = len(prompt.continuation) if prompt.continuation else continuation_tokens
        if len(prompt.context) + following > limit:
            raise PromptError(
                f"{len(prompt.context)} context and {following} continuation tokens exceed the model's {limit}",
                field=prompt.id,
                remedy="lower --context-tokens or --continuation-tokens",
            )
        if crosses(facts, len(prompt.context), len(prompt.context) + following):
            raise PromptError(
                f"{len(prompt.context)} context and {following} continuation tokens cross {facts.switch_tokens:,}, "
                f"where {facts.model_type} rotates all positions anew (LongRoPE)",
                field=prompt.id,
                remedy="lower --context-tokens, or raise it beyond that",
            )


def as_error(error: Exception) -> AutoKVError:
    """``error``, or one line about it."""
    if isinstance(error, AutoKVError):
        return error
    return AutoKVError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
