"""Style transfer: one optimised image, and a feed-forward network."""
