"""Report sections on a knob: the sweep over its range and the certificate."""
