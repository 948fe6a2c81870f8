"""Compile the training step for accelerators that are not here."""
