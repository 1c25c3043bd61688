"""The importance of each free name for each objective."""

import warnings
from collections.abc import Callable

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from lossmith.tune.objectives import Objective
from lossmith.tune.search import Search

__all__ = ["parameter_importance"]

MIN_TRIALS = 8
"""The least number of complete trials from which importances are computed."""


def parameter_importance(search: Search, study: Study) -> dict[str, dict[str, float]]:
    """Return for each objective the relative importance of the free names, by Optuna's PED-ANOVA.

    The method compares the distribution of the best trials with that of all trials, so it says nothing about values
    outside the ranges.

    Returns:
        For each metric the importance of each free name; the importances add up to 1. Empty with one free name, or with
        fewer than 8 complete trials.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(search.space) < 2 or len(complete) < MIN_TRIALS:
        return {}
    found: dict[str, dict[str, float]] = {}
    for index, objective in enumerate(search.objectives):
        if len({trial.values[index] for trial in complete}) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a reminder that lower values count as better, as costs are
            importances = optuna.importance.get_param_importances(study, target=_cost_of(objective, index))
        found[objective.metric] = {name: float(value) for name, value in importances.items()}
    return found


def _cost_of(objective: Objective, index: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: objective.to_cost(trial.values[index])
