"""Judging in this process: the evaluator on calibration prompts, then the one on validation prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autokv.compression.context import StatisticsNeeded
from autokv.config import CompressionConfig
from autokv.evaluation.evaluator import Evaluator
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.prompts import PromptSets
from autokv.models import LoadedModel
from autokv.runs.executors import Results
from autokv.tuning.pareto import TIMED
from autokv.tuning.request import GENERATED_METRICS, TuningRequest


class LocalExecutor:
    """Prefills a set of prompts when it is first asked about it, and holds one set at a time.

    Args:
        model: the model to judge on.
        sets: calibration and validation prompts.
        request: the lengths and metrics that are asked for.
        needs: what the space's configurations need of a prefill.
        batch: sequences that decode attention is timed over.
        say: told, in a line, what takes a while.
        check: called between prompts; may raise to stop.
    """

    def __init__(
        self,
        model: LoadedModel,
        sets: PromptSets,
        request: TuningRequest,
        needs: StatisticsNeeded,
        batch: int,
        say: Callable[[str], None] = lambda line: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._model, self._sets, self._request = model, sets, request
        self._needs, self._batch, self._say, self._check = needs, batch, say, check
        self._held: tuple[str, Evaluator] | None = None

    def calibrate(self, configs: Sequence[CompressionConfig]) -> Results:
        """Judge on the calibration prompts; what is generated or timed only where the request names such a metric."""
        asked = frozenset(self._request.metrics)
        return self._evaluator(
            "calibration", self._sets.calibration, generate=bool(asked & GENERATED_METRICS), timed=bool(asked & TIMED)
        ).evaluate(configs)

    def validate(self, configs: Sequence[CompressionConfig]) -> Results:
        """Judge on the validation prompts, with generated answers wherever there are prompts that ask for them."""
        generate = bool(self._request.tasks) or self._request.prompts is not None
        return self._evaluator("validation", self._sets.validation, generate=generate, timed=True).evaluate(configs)

    def close(self) -> None:
        """Let go of the prefills."""
        self._held = None

    def _evaluator(self, phase: str, prompts: Sequence[Prompt], *, generate: bool, timed: bool) -> Evaluator:
        if self._held is None or self._held[0] != phase:
            self._held = None  # One set of prefills is enough to hold.
            self._say(f"prefilling {len(prompts)} {phase} prompts")
            evaluator = Evaluator(
                self._model,
                prompts,
                self._request.continuation_tokens,
                self._needs,
                timed=timed,
                batch=self._batch,
                generate=generate,
                check=self._check,
            )
            self._held = phase, evaluator
        return self._held[1]
