"""Checkpoints: Orbax writes them, and a manifest of checksums proves them intact."""
