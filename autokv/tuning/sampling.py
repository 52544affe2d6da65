"""Optuna, by ask and tell: where the next candidate comes from, and which parameters the objectives hang on.

Optuna's study is a shadow of the trial records. It is rebuilt from them when a run resumes, and each batch starts a
fresh sampler seeded by the run's seed and by how many records there are, so that a resumed run goes on as it would
have. Samplers see a space as a fixed set of parameters: those that do not matter to a configuration have one constant
value in its trial. TPE does better so than with conditional parameters, and NSGA-II and GP cannot work otherwise.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial, TrialState, create_trial

from autokv.config import CompressionConfig
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
MIN_TRIALS = 10
"""Fewer say nothing of importance."""
TREES = 32


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
        point = _point(self._space, record.config)
        if point is None:
            return
        if record.measurement is None:
            self._study.add_trial(create_trial(state=TrialState.PRUNED, constraints={"runs": NO_MEASUREMENT}, **point))
            self._shunned += 1
            return
        self._study.add_trial(
            create_trial(
                values=losses(record.measurement, self._objectives),
                constraints=violations(record.measurement, self._constraints),
                system_attrs={GENERATION: self._complete // POPULATION},
                **point,
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


def _point(space: SearchSpace, config: CompressionConfig) -> dict[str, Any] | None:
    """Parameters and distributions of a configuration's trial; ``None`` where it lies outside the space."""
    try:
        chosen = FixedTrial(space.completed(space.params_of(config)))
    except SpaceError:
        return None
    space.sample(chosen)
    return {"params": chosen.params, "distributions": chosen.distributions}


def make_sampler(name: SamplerName, seed: int) -> BaseSampler:
    """The sampler of that name, with the settings that benchmarks/sampler_comparison.py found best."""
    if name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)
    if name == "nsgaii":
        return NSGAIISampler(seed=seed, population_size=POPULATION)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=STARTUP)
    return RandomSampler(seed=seed)


def importance(
    space: SearchSpace, trials: Sequence[TrialRecord], objectives: Sequence[str], seed: int = 0
) -> dict[str, dict[str, float]]:
    """Objective to parameter to share of the objective's variance, largest first.

    Functional ANOVA over a random forest (Hutter et al. 2014). A parameter that a trial does not have counts with one
    constant value, so that conditional parameters take part. Empty for an objective that does not vary, or where
    fewer than ten trials are complete.
    """
    study = optuna.create_study(directions=["minimize"] * len(objectives))
    for trial in trials:
        point = None if trial.measurement is None else _point(space, trial.measurement.config)
        if trial.measurement is not None and point is not None:
            study.add_trial(create_trial(values=losses(trial.measurement, objectives), **point))
    return {name: _shares(study, index, seed) for index, name in enumerate(objectives)}


def _shares(study: optuna.Study, objective: int, seed: int) -> dict[str, float]:
    values = [trial.values[objective] for trial in study.trials]
    if len(values) < MIN_TRIALS or np.ptp(values) == 0:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # with scikit-learn: a second

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares: Mapping[str, Any] = get_param_importances(
            study,
            evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=seed),
            target=lambda trial: trial.values[objective],
        )
    return {name: float(share) for name, share in shares.items() if np.isfinite(share)}
