"""Losses of piq and torchmetrics as terms of a formula, added by entry points as those of any other package."""
