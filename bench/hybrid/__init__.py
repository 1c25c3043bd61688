"""What `bench/hybrid_step.py` is made of."""
