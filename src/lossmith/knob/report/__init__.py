"""Figures and texts on a knob: the sweep over its range, and the certificate."""
