"""Checks of the GPUs of each node."""
