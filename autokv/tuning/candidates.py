"""What to run next: known settings first, then new points of the sampler that are not known to be unable to run."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autokv.config import CompressionConfig
from autokv.errors import ConfigError, InfeasibleError
from autokv.search_spaces import SearchSpace
from autokv.search_spaces.space import Params
from autokv.tuning.request import TuningRequest
from autokv.tuning.sampling import Sampling
from autokv.tuning.trial import TrialRecord

GUIDED_DRAWS = 8
"""Draws of the sampler, for one candidate, that may be repetitions or unable to run; then it draws at random."""
DRAWS = 200
"""All draws for one candidate; after that the space counts as exhausted."""


@dataclass(frozen=True)
class Candidate:
    """A point and its configuration; ``None`` where the point makes none."""

    params: Params
    config: CompressionConfig | None
    source: str


@dataclass(frozen=True)
class Runnable(Candidate):
    """A candidate that may be run."""

    config: CompressionConfig


class Candidates:
    """The candidates of one run, each configuration once.

    ``first`` go ahead of all others, by source; they need not lie in the space, nor fit. ``fits`` raises for a
    configuration that is known not to run; ``refuse`` is told of each of these and why.
    """

    def __init__(
        self,
        request: TuningRequest,
        space: SearchSpace,
        sampling: Sampling,
        existing: Sequence[TrialRecord],
        first: Mapping[str, CompressionConfig],
        fits: Callable[[CompressionConfig], None],
        refuse: Callable[[Candidate, str], None],
    ) -> None:
        self._source = request.sampler
        self._space = space
        self._sampling = sampling
        self._fits = fits
        self._refuse = refuse
        self._seen = {_identity(record.params, record.config) for record in existing}
        known = {} if request.sampler == "random" else space.literature
        self._first = deque(Runnable({}, config, source) for source, config in first.items())
        self._known = deque(
            Runnable(space.params_of(config), config, f"literature: {name}") for name, config in known.items()
        )

    def batch(self, size: int) -> list[Runnable]:
        """At most ``size`` candidates; none where the space has no further one that can run."""
        self._sampling.begin_batch()
        return list(itertools.islice(self._all(), size))

    def _all(self) -> Iterator[Runnable]:
        while self._first:
            candidate = self._first.popleft()
            if self._is_new(candidate.config.digest):
                yield candidate
        while self._known:
            candidate = self._known.popleft()
            if self._accepts(candidate):
                yield candidate
        while (drawn := self._draw()) is not None:
            yield drawn

    def _draw(self) -> Runnable | None:
        for draw in range(DRAWS):
            if draw == GUIDED_DRAWS:
                self._sampling.use_random()
            point = self._sampling.ask()
            try:
                config = self._space.to_config(point)
            except ConfigError as error:
                if self._is_new(_identity(point, None)):
                    self._refuse(Candidate(point, None, self._source), str(error))
                continue
            candidate = Runnable(self._space.params_of(config), config, self._source)
            if self._accepts(candidate):
                return candidate
        return None

    def _accepts(self, candidate: Runnable) -> bool:
        if not self._is_new(candidate.config.digest):
            return False
        try:
            self._fits(candidate.config)
        except (ConfigError, InfeasibleError) as error:
            self._refuse(candidate, str(error))
            return False
        return True

    def _is_new(self, identity: str) -> bool:
        new = identity not in self._seen
        self._seen.add(identity)
        return new


def _identity(params: object, config: CompressionConfig | None) -> str:
    return repr(params) if config is None else config.digest
