"""The folder of a run: its config, its logs, its results."""
