"""Networks with a knob: sweep over the range, slider calibration and certificate."""
