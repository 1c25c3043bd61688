"""Kernels that only a CPU needs; on other devices none of this runs."""
