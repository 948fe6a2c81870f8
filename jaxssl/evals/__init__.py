"""Evaluations: one metric a file; `extract` is the one loop over a data set."""
