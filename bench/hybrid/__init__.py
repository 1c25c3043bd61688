"""The parts of `bench/hybrid_step.py`."""
