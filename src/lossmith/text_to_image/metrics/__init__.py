"""Metrics of sets of images generated from captions."""
