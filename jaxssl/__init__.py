"""Self-supervised learning by recognising transformations, in pure-function JAX.

The six systems of Simon Jenni's thesis "Learning Generalizable Visual Patterns
Without Human Supervision". Import what you need: ``jaxssl.transforms`` needs only jax
and numpy, ``jaxssl.optim`` also optax; all that trains needs the extra ``train``.
"""

__version__ = "0.1.0"
