"""Pretrained weights: where their files are found, how they are read and hashed."""
