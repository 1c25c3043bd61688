"""The engine: networks run once per input for all terms, and save bits instead of activations for backward."""
