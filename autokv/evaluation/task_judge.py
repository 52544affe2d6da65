"""A second validation set: which generated tasks that the full cache solves does a configuration lose?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autokv import settings
from autokv.compression.context import StatisticsNeeded
from autokv.config import CompressionConfig
from autokv.errors import AutoKVError, ConfigError
from autokv.evaluation.candidate import apply
from autokv.evaluation.continuation import FullContext, Source, greedy
from autokv.evaluation.encoding import encode
from autokv.evaluation.evaluator import as_error, stop_tokens
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.quality import RIGHT, compare_scores
from autokv.evaluation.snapshot import Snapshot, take_snapshot
from autokv.evaluation.tasks import Task, score
from autokv.evaluation.tasks.sizing import size_tasks
from autokv.kernels import backend
from autokv.models import LoadedModel
from autokv.runtime.attention import install

LONGEST = {"cpu": 512, "cuda": 1024}
"""Context tokens of a task at most, by kind of device."""
ROOM, SPARE = 1.5, 8
"""An answer may be this many times as long as the references in a row, and some tokens more."""

Row = dict[str, Any]


class TaskJudge:
    """Lets configurations answer generated tasks by greedy decoding.

    The tasks are sized when the judge is made, by :func:`autokv.evaluation.tasks.sizing.size_tasks`. Every prompt is
    prefilled once; those that the full cache gets right are kept.

    Args:
        model: the model; its attention is replaced by AutoKV's.
        tasks: the kinds of tasks.
        longest: context tokens at most; :data:`LONGEST` and the model's own context bound them too.
        seed: of the tasks.
        needs: what the configurations to come need of a prefill.
        check: called before every prompt; may raise to stop.
    """

    def __init__(
        self,
        model: LoadedModel,
        tasks: Iterable[Task],
        longest: int,
        seed: int,
        needs: StatisticsNeeded,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        install(model.model)
        self._model, self._needs, self._check = model, needs, check
        self._stop = stop_tokens(model)
        self._backend = backend(model.device, settings.current().kernels)
        self._solved: list[tuple[Snapshot, float]] = []
        """Prefills that the full cache answers rightly, and its score."""
        self.sized = size_tasks(
            tasks,
            model.tokenizer,
            min(longest, LONGEST[model.device.type], model.facts.context_tokens // 2),
            seed,
            self._solves,
        )
        """What is judged, and what is left out."""
        kept = set(self.sized.prompts)
        self._solved = [(snapshot, full) for snapshot, full in self._solved if snapshot.prompt in kept]

    def judge(self, configs: Sequence[CompressionConfig]) -> list[list[Row] | AutoKVError]:
        """A sample per prompt and configuration: ``id``, ``kind``, ``task`` (again the kind: it marks a sample of this
        set), ``context_tokens``, ``task_score`` and ``negative_sample_rate``, which is 1 where the configuration loses
        what the full cache solves.

        A prompt is left out for a configuration that does not fit its context. One that fails gives its error.
        """
        rows: list[list[Row] | AutoKVError] = [[] for _ in configs]
        for snapshot, full in self._solved:
            self._check()
            sources: dict[int, Source] = {}
            for index, config in enumerate(configs):
                if isinstance(rows[index], list):
                    try:
                        sources[index] = apply(self._model, snapshot, config, self._room(snapshot.prompt.references))
                    except ConfigError:
                        continue
                    except (AutoKVError, RuntimeError, ValueError, MemoryError) as error:
                        rows[index] = as_error(error)
            prompt = snapshot.prompt
            facts = {"id": prompt.id, "kind": prompt.kind, "task": prompt.kind, "context_tokens": snapshot.tokens}
            for index, scored in zip(sources, self._scores(snapshot, list(sources.values())), strict=True):
                row = rows[index]
                if isinstance(row, list):
                    row.append({**facts, **compare_scores(full, scored)})
        return rows

    def _solves(self, prompt: Prompt) -> bool:
        self._check()
        snapshot = take_snapshot(self._model, prompt, self._needs, self._backend)
        [full] = self._scores(snapshot, [FullContext(snapshot.next_logits)])
        if full >= RIGHT:
            self._solved.append((snapshot, full))
        return full >= RIGHT

    def _scores(self, snapshot: Snapshot, sources: Sequence[Source]) -> list[float]:
        references, tokenizer = snapshot.prompt.references, self._model.tokenizer
        answers = greedy(self._model, snapshot, sources, self._room(references), self._stop) if sources else []
        return [score(str(tokenizer.decode(answer, skip_special_tokens=True)), references) for answer in answers]

    def _room(self, references: Sequence[str]) -> int:
        """Tokens that an answer may have."""
        return int(ROOM * len(encode(self._model.tokenizer, ", ".join(references)))) + SPARE
