"""Which parameters the objectives hang on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FixedTrial, create_trial

from autokv.errors import SpaceError
from autokv.search_spaces import SearchSpace
from autokv.tuning.objectives import losses
from autokv.tuning.trial import TrialRecord

MIN_TRIALS = 10
TREES = 32


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
        if trial.measurement is None:
            continue
        try:
            chosen = FixedTrial(space.completed(space.params_of(trial.measurement.config)))
        except SpaceError:
            continue
        space.sample(chosen)
        values = losses(trial.measurement, objectives)
        study.add_trial(create_trial(params=chosen.params, distributions=chosen.distributions, values=values))
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
