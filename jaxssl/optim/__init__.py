"""Optimizers of the thesis' experiments, as optax gradient transformations."""
