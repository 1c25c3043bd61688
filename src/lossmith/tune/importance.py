"""How much each free name decides of each figure, as far as the trials tell."""

import warnings
from collections.abc import Callable

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from lossmith.tune.objectives import Objective
from lossmith.tune.search import Search

__all__ = ["parameter_importance"]

LEAST = 8
"""Complete trials; of fewer nothing can be said."""


def parameter_importance(search: Search, study: Study) -> dict[str, dict[str, float]]:
    """For each axis, the shares of the free names in what sets its good trials apart; they add up to one.

    It is Optuna's PED-ANOVA, one axis at a time. It compares where the best trials lie with where all lie, and so says
    nothing about what a name would do outside its range. Empty with one free name, or with too few trials.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(search.space) < 2 or len(done) < LEAST:
        return {}
    found: dict[str, dict[str, float]] = {}
    for index, axis in enumerate(search.axes):
        if len({trial.values[index] for trial in done}) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it remarks that low is good, for which `down` sees
            shares = optuna.importance.get_param_importances(study, target=lowered(axis, index))
        found[axis.metric] = {name: float(share) for name, share in shares.items()}
    return found


def lowered(axis: Objective, index: int) -> Callable[[FrozenTrial], float]:
    """What gives a trial's figure, turned so that less is better."""
    return lambda trial: axis.down(trial.values[index])
