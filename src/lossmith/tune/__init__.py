"""Tuning: which weights to take, judged on pictures that the loss never saw."""
