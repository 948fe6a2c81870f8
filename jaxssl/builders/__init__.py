"""From the sections of a config to an Experiment: one method is one file.

Each file has one function ``build_experiment``, which the ``build`` of a config calls.
"""
