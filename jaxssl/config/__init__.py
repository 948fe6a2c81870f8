"""Sections of a config and the checks of their values."""
