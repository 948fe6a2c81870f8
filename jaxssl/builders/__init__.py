"""From a config's sections to an Experiment: what the ``build`` functions share.

A config chooses networks and data; these functions put them together with the method,
its optimizers and its evaluations, and read every section of the config on the way.
"""

from jaxssl.builders.labels import generalization, linear_probes, supervised
from jaxssl.builders.parts import load_splits, make_txs
from jaxssl.builders.pretext import recognition

__all__ = [
    "generalization",
    "linear_probes",
    "load_splits",
    "make_txs",
    "recognition",
    "supervised",
]
