"""Optuna, by ask and tell: where the next candidate comes from.

Optuna's study is a shadow of the trial records. It is rebuilt from them when a run resumes, and each batch starts a
fresh sampler seeded by the run's seed and by how many records there are, so that a resumed run goes on as it would
have. Samplers see a space as a fixed set of parameters: those that do not matter to a configuration have one constant
value in its trial. TPE does better so than with conditional parameters, and NSGA-II and GP cannot work otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial, TrialState, create_trial

from autokv.errors import RequestError, SpaceError
from autokv.search_spaces import SearchSpace
from autokv.search_spaces.space import Params
from autokv.tuning.objectives import Constraint, losses, violations
from autokv.tuning.trial import TrialRecord

SamplerName = Literal["tpe", "nsgaii", "gp", "random"]
STARTUP = 10
"""Complete trials before a model guides the search; those of the literature count."""
POPULATION = 12
"""Of NSGA-II: small, because a run has tens of trials, not thousands."""
MAX_GP_PARAMETERS = 24
NO_MEASUREMENT = 10.0
"""Violation that stands for a candidate that cannot run: worse than most that broke a constraint when measured."""
GENERATION = "NSGAIISampler:generation"


def check_sampler(name: SamplerName, space: SearchSpace) -> None:
    """Check that a sampler can work on a space.

    Raises:
        RequestError: it cannot.
    """
    count = len(space.parameters)
    if name == "gp" and count > MAX_GP_PARAMETERS:
        raise RequestError(
            f"a Gaussian process is lost in the {count} parameters of space {space.name!r} (at most "
            f"{MAX_GP_PARAMETERS})",
            field="sampler",
            remedy="use tpe, or a smaller space",
        )


class Sampling:
    """A study that is asked for points and told of finished trials."""

    def __init__(
        self,
        name: SamplerName,
        space: SearchSpace,
        objectives: Sequence[str],
        constraints: Sequence[Constraint],
        seed: int,
    ) -> None:
        check_sampler(name, space)
        self._name: SamplerName = name
        self._space = space
        self._objectives = objectives
        self._constraints = constraints
        self._seed = seed
        self._records = 0
        self._complete = 0
        self._shunned = 0
        self._asked: list[optuna.Trial] = []
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(directions=["minimize"] * len(objectives))

    def add(self, record: TrialRecord) -> None:
        """Tell of a finished trial; one that failed, or that lies outside the space, teaches nothing.

        One that is known not to run is told as pruned with a broken constraint, which turns TPE away from it; at most
        one for every two that ran, or they would crowd these out of the good tenth.
        """
        self._records += 1
        if record.config is None or record.state == "failed":
            return
        if record.measurement is None and 2 * self._shunned >= self._complete:
            return
        try:
            params = self._space.params_of(record.config)
        except SpaceError:
            return
        chosen = FixedTrial(self._space.completed(params))
        self._space.sample(chosen)
        known: dict[str, Any] = {"params": chosen.params, "distributions": chosen.distributions}
        if record.measurement is None:
            self._study.add_trial(create_trial(state=TrialState.PRUNED, constraints={"runs": NO_MEASUREMENT}, **known))
            self._shunned += 1
            return
        self._study.add_trial(
            create_trial(
                values=losses(record.measurement, self._objectives),
                constraints=violations(record.measurement, self._constraints),
                system_attrs={GENERATION: self._complete // POPULATION},
                **known,
            )
        )
        self._complete += 1

    def begin_batch(self) -> None:
        """Forget what was asked for and seed the sampler by how many records there are."""
        for trial in self._asked:
            self._study.tell(trial, state=TrialState.FAIL)
        self._asked.clear()
        self._use(self._name)

    def use_random(self) -> None:
        """Draw at random until the next batch."""
        self._use("random")

    def ask(self) -> Params:
        """A point; it counts as running until the next batch, so that a batch does not repeat itself."""
        trial = self._study.ask()
        self._asked.append(trial)
        return self._space.sample(trial)

    def _use(self, name: SamplerName) -> None:
        seed = int(np.random.SeedSequence([self._seed, self._records]).generate_state(1)[0])
        self._study.sampler = make_sampler(name, seed)


def make_sampler(name: SamplerName, seed: int) -> BaseSampler:
    """The sampler of that name, with the settings that benchmarks/sampler_comparison.py found best."""
    if name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)
    if name == "nsgaii":
        return NSGAIISampler(seed=seed, population_size=POPULATION)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=STARTUP)
    return RandomSampler(seed=seed)
