"""Checkpoints: written by Orbax, vouched for by a manifest."""
