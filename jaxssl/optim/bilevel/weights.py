"""From inner products of gradients to the weights of mini-batches (eqs. 8.7 to 8.10).

Everything here works on a handful of numbers; no gradient comes near it.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms import checks
from jaxssl.types import Array, Bool, Float, Int

Scalar = Float[Array, ""] | float | int
"""A number that may be traced."""

SOLVERS = ("diagonal", "exact")
NORMALIZATIONS = ("l1", None)
ON_ZERO = ("skip", "uniform", "validation")


class Info(NamedTuple):
    """What one step found out about its mini-batches.

    With weights per layer every array has one more axis in front: the layers, in the
    order of their sorted labels.

    Attributes:
      weights: w-hat of each training mini-batch, with its sign.
      cosine: between the gradient of each training mini-batch and the validation
        gradient, 0 where one of the two is 0; None where the norms are not known.
      val_norm: |g_v|; None where it is not known.
      grad_norms: |g_i|; None where they are not known.
      l1: |w|_1 before the normalisation.
      num_negative: how many weights are negative, so that their mini-batches are
        ascended.
      skipped: true where no mini-batch got a weight, and ``on_zero`` decided.
    """

    weights: Float[Array, "*layers n"]
    cosine: Float[Array, "*layers n"] | None
    val_norm: Float[Array, "*layers"] | None
    grad_norms: Float[Array, "*layers n"] | None
    l1: Float[Array, "*layers"]
    num_negative: Int[Array, "*layers"]
    skipped: Bool[Array, "*layers"]


class Rule(NamedTuple):
    """The settings of `solve_weights`, which documents them, checked."""

    lam: Scalar
    mu: Scalar
    solver: str
    normalize: str | None
    on_zero: str
    finite_only: bool


def make_rule(
    lam: Scalar,
    mu: Scalar,
    solver: str,
    normalize: str | None,
    on_zero: str,
    finite_only: bool,
) -> Rule:
    """Check the settings of `solve_weights` and keep them together.

    Raises:
      ValueError: a setting is impossible; see `solve_weights`.
    """
    checks.choice(solver, SOLVERS, "solver")
    checks.choice(normalize, NORMALIZATIONS, "normalize")
    checks.choice(on_zero, ON_ZERO, "on_zero")
    if _is_number(lam) and not lam > 0:
        raise ValueError(
            f"lam must be above 0; got {lam}. Use float('inf') to leave out |g_i|^2."
        )
    if _is_number(mu):
        if not 0 <= mu < np.inf:
            raise ValueError(f"mu must be in [0, inf); got {mu}. The thesis has 0.01.")
        if mu == 0 and solver == "exact":
            raise ValueError(
                "mu must be above 0 for solver='exact': equal gradients make the "
                "linear system singular. Take a small mu, or solver='diagonal'."
            )
        if mu == 0 and is_infinite(lam):
            raise ValueError(
                "mu must be above 0 where lam is inf, as nothing else is left in the "
                "denominator of eq. 8.10; take mu=1. With normalize='l1' the weights "
                "do not depend on it."
            )
    return Rule(lam, mu, solver, normalize, on_zero, finite_only)


def is_infinite(lam: Scalar) -> bool:
    """Say whether lambda is known to be infinite while tracing."""
    return _is_number(lam) and bool(np.isposinf(lam))


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.floating)


def solve_weights(
    dots: Float[Array, " n"],
    sq_norms: Float[Array, " n"] | None,
    gram: Float[Array, "n+1 n+1"] | None = None,
    *,
    lam: Scalar = 1.0,
    mu: Scalar = 0.01,
    solver: str = "diagonal",
    normalize: str | None = "l1",
    on_zero: str = "skip",
    finite_only: bool = False,
    val_sq_norm: Scalar | None = None,
) -> tuple[Float[Array, " n"], Info]:
    """Weigh the training mini-batches by how their gradients agree with validation.

    Signs are kept: a mini-batch whose gradient points against the validation gradient
    gets a negative weight, so that the update ascends it.

    Args:
      dots: <g_v, g_i> for each of the n = k - 1 training mini-batches.
      sq_norms: |g_i|^2; may be None where ``lam`` is the Python number inf.
      gram: inner products of all k gradients, row and column 0 those of validation;
        needed by ``solver="exact"`` only.
      lam: lambda-hat, above 0; may be traced. float("inf") leaves out |g_i|^2.
      mu: mu-hat, at least 0; may be traced. Large values even out the effect of the
        gradients' norms.
      solver: "diagonal" for eq. 8.10, which ignores the inner products among training
        mini-batches; "exact" for the linear system of eq. 8.8. Where mini-batches are
        so similar that the system has directions smaller than rounding errors, these
        directions are left out: equal mini-batches share evenly.
      normalize: "l1" divides by |w|_1 as in eq. 8.10; None leaves the weights as they
        are (ablation a of thesis table 8.1).
      on_zero: what to return if every weight is 0, as for a validation gradient that is
        0 or orthogonal to all others. "skip": zeros. "uniform": 1/n each. "validation":
        zeros, and what calls this function steps along g_v itself.
      finite_only: leave out mini-batches whose inner product or norm is not finite:
        their weight is 0. Otherwise one of them makes all weights NaN.
      val_sq_norm: |g_v|^2, for the cosines; taken from ``gram`` if that is given.

    Returns:
      The weights, and what is known of the mini-batches.

    Raises:
      ValueError: lam, mu or a choice is impossible, or the exact solver has no gram.

    References:
      Thesis eqs. 8.8 and 8.10.

    Example:
      >>> import jax.numpy as jnp
      >>> dots, sq_norms = jnp.array([2.0, -1.0, 0.0]), jnp.array([0.99, 0.99, 4.0])
      >>> weights, info = solve_weights(dots, sq_norms)
      >>> weights
      Array([ 0.6666667 , -0.33333334,  0.        ], dtype=float32)
      >>> int(info.num_negative)
      1
    """
    rule = make_rule(lam, mu, solver, normalize, on_zero, finite_only)
    info = solve(rule, dots, sq_norms, gram, val_sq_norm)
    return info.weights, info


def solve(
    rule: Rule,
    dots: Float[Array, " n"],
    sq_norms: Float[Array, " n"] | None,
    gram: Float[Array, "n+1 n+1"] | None,
    val_sq_norm: Scalar | None,
) -> Info:
    """Do the work of `solve_weights` for settings that are checked."""
    if gram is not None:
        val_sq_norm = gram[0, 0]
    if rule.solver == "exact":
        raw = _solve_exact(rule, dots, sq_norms, gram)
    else:
        raw = raw_weights(rule, dots, sq_norms)
    l1 = jnp.abs(raw).sum()
    skipped = l1 == 0
    weights = raw / jnp.where(skipped, 1, l1) if rule.normalize == "l1" else raw
    if rule.on_zero == "uniform":
        used = usable(rule, dots, sq_norms).astype(raw.dtype)
        even = used / jnp.maximum(used.sum(), 1)
        weights = jnp.where(skipped, even, weights)
    grad_norms = None if sq_norms is None else safe_sqrt(sq_norms)
    val_norm = None if val_sq_norm is None else safe_sqrt(jnp.asarray(val_sq_norm))
    cosine = None
    if grad_norms is not None and val_norm is not None:
        product = grad_norms * val_norm
        cosine = jnp.where(product == 0, 0, dots / jnp.where(product == 0, 1, product))
    negative = (weights < 0).sum(dtype=jnp.int32)
    return Info(weights, cosine, val_norm, grad_norms, l1, negative, skipped)


def raw_weights(
    rule: Rule, dots: Float[Array, "*n"], sq_norms: Float[Array, "*n"] | None
) -> Float[Array, "*n"]:
    """Return w_i of eq. 8.10, one by one and not yet normalised.

    Raises:
      ValueError: there are no norms, but a lambda that asks for them.
    """
    if sq_norms is None:
        if not is_infinite(rule.lam):
            raise ValueError(
                f"sq_norms must be given where lam is finite; got lam={rule.lam}. "
                "Pass |g_i|^2, or lam=float('inf')."
            )
        sq_norms = jnp.zeros_like(dots)
    counts = usable(rule, dots, sq_norms)
    dots, sq_norms = jnp.where(counts, dots, 0), jnp.where(counts, sq_norms, 0)
    scale = sq_norms / rule.lam + rule.mu
    # With mu = 0, a gradient of 0 has no scale; its weight is 0, not 0/0.
    none = scale == 0
    return jnp.where(none, 0, dots / jnp.where(none, 1, scale))


def _solve_exact(rule: Rule, dots, sq_norms, gram) -> Float[Array, " n"]:
    if gram is None:
        raise ValueError(
            "gram must be given for solver='exact': the inner products of all k "
            "gradients, [k, k]. Or take solver='diagonal'."
        )
    counts = usable(rule, dots, sq_norms)
    among = jnp.where(counts[:, None] & counts[None, :], gram[1:, 1:], 0)
    system = among / rule.lam + rule.mu * jnp.eye(len(dots), dtype=gram.dtype)
    right = jnp.where(counts, dots, 0).astype(system.dtype)
    return _solve_symmetric(system, right, float(jnp.finfo(gram.dtype).eps))


def _solve_symmetric(
    system: Float[Array, "n n"], right: Float[Array, " n"], eps: float
) -> Float[Array, " n"]:
    """Solve a linear system without the directions that are rounding errors alone.

    Equal gradients have a singular Gram matrix. A mu below the rounding of |g|^2 does
    not help, and a rounding error divided by another would rule the weights. Rows and
    columns are first scaled to a diagonal of ones: without this a short gradient beside
    a long one would be taken for rounding.
    """
    diagonal = jnp.diag(system)
    zero = diagonal == 0
    scale = jnp.where(zero, 0, jax.lax.rsqrt(jnp.where(zero, 1, diagonal)))
    times = functools.partial(jnp.matmul, precision="highest")

    def solve(_, right):
        values, vectors = jnp.linalg.eigh(scale[:, None] * system * scale[None, :])
        parts = times(scale * right, vectors)
        rounding = len(right) * eps
        drop = values < rounding * values.max()
        drop |= jnp.abs(parts) < rounding * jnp.linalg.norm(parts)
        kept = jnp.where(drop, 0, parts / jnp.where(drop, 1, values))
        return scale * times(vectors, kept)

    # Derivatives follow from the system: those of eigenvectors are infinite where two
    # eigenvalues are equal.
    return jax.lax.custom_linear_solve(
        functools.partial(times, system), right, solve, symmetric=True
    )


def usable(
    rule: Rule, dots: Float[Array, "*n"], sq_norms: Float[Array, "*n"] | None
) -> Bool[Array, "*n"]:
    """Mark the mini-batches that may get a weight."""
    if not rule.finite_only:
        return jnp.ones(dots.shape, bool)
    finite = jnp.isfinite(dots)
    return finite if sq_norms is None else finite & jnp.isfinite(sq_norms)


def safe_sqrt(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Take the root with a derivative of 0, not inf, at 0."""
    return jnp.where(x == 0, 0, jnp.sqrt(jnp.where(x == 0, 1, x)))
