"""The engine: networks run once for all terms, and keep bits instead of activations for the backward pass."""
