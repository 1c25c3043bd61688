"""Search for the weights of a loss by validation metrics, as a multi-objective optimisation with Optuna."""
