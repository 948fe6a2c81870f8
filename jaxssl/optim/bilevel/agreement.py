"""The weighting as an optax transformation of stacked gradients."""

import itertools
import numbers
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxssl.optim.bilevel import groups as grouping
from jaxssl.optim.bilevel import stacked, weights
from jaxssl.optim.bilevel.groups import Groups, Labels, Mask
from jaxssl.optim.bilevel.weights import Info, Scalar
from jaxssl.types import Array, Params

try:  # optax's contract for "gradients of many elements in, one update out".
    from optax.experimental import aggregating
except ImportError:  # It is an experiment, and may move.
    Aggregator = optax.GradientTransformationExtraArgs
else:
    Aggregator = aggregating.Aggregator


_STATIC_ARGS = (
    "With optax.inject_hyperparams pass static_args=('k', 'val_index'), or ('k',) with "
    "bilevel_sgd: it makes arrays of the other numbers."
)


class AgreementState(NamedTuple):
    """What `scale_by_agreement` keeps: nothing that it needs, all that one may log.

    Attributes:
      info: about the last step, zeros before the first. ``optax.tree.get(state,
        "cosine")`` finds a field of it in any chain.
    """

    info: Info


def scale_by_agreement(
    k: int,
    *,
    lam: Scalar = 1.0,
    mu: Scalar = 0.01,
    val_index: int = 0,
    solver: str = "diagonal",
    normalize: str | None = "l1",
    on_zero: str = "skip",
    finite_only: bool = False,
    per_layer: Labels = None,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """Turn k stacked gradients into one, weighted by agreement with validation.

    The gradients have a leading axis of k, as `jax.vmap` of `jax.grad` makes them; the
    update has the parameters' shapes. So it comes first in `optax.chain`: clipping
    before it would clip the norm of all k gradients together, weight decay before it
    would enter the inner products, momentum before it would have no weights. Inside of
    `optax.MultiSteps` it is refused, as that adds up finished updates; put MultiSteps
    around what comes after it. `value_and_grad` does the same work without the stack,
    in less time and memory.

    With `optax.inject_hyperparams`, name ``k`` and ``val_index`` in ``static_args``,
    and ``mask`` and ``per_layer`` where they are functions: it makes arrays of numbers
    and takes functions for schedules.

    Wrappers of optax that expect updates like the gradients go around what comes after
    it, not around it: `optax.apply_if_finite` and `optax.masked`, which would hand the
    stack of a masked parameter on. ``finite_only`` and ``mask`` do their work here.

    Args:
      k: mini-batches a step, at least 2, one of them for validation.
      lam: see `solve_weights`, also for all but the following.
      mu: see there.
      val_index: which of the k is the validation gradient.
      solver: see there; the exact solver forms all k^2 inner products.
      normalize: see there.
      on_zero: see there; "validation" makes the update g_v itself.
      finite_only: see there.
      per_layer: None for one weight a mini-batch; else labels of the parameters (as in
        `optax.multi_transform`), or a function that makes them, such as `by_layer`.
        Parameters of the same label share a weight.
      mask: false where a parameter is frozen (as in `optax.masked`), or a function that
        makes it. Its gradient does not enter the inner products, its update is 0.

    Returns:
      The transformation, an ``optax.experimental.aggregating.Aggregator`` where optax
      has one. Its state is an `AgreementState`.

    Raises:
      TypeError: k or ``val_index`` is no Python integer.
      ValueError: a setting is impossible; in ``update``: gradients that are not
        stacked.

    References:
      Thesis section 8.3, eqs. 8.10 and 8.11.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> tx = optax.chain(scale_by_agreement(3), optax.sgd(0.1))
      >>> params = jnp.zeros(2)
      >>> gradients = jnp.array([[1.0, 0.0], [2.0, 1.0], [-1.0, 1.0]])
      >>> updates, state = tx.update(gradients, tx.init(params), params)
      >>> optax.tree.get(state, "num_negative")
      Array(1, dtype=int32)
    """
    check_count(k)
    if not isinstance(val_index, numbers.Integral):
        raise TypeError(
            f"val_index must be a Python int; got {val_index}. {_STATIC_ARGS}"
        )
    if not 0 <= val_index < k:
        raise ValueError(
            f"val_index must lie between 0 and {k - 1}, one of the k={k} mini-batches; "
            f"got {val_index}."
        )
    rule = weights.make_rule(lam, mu, solver, normalize, on_zero, finite_only)

    def init(params: Params) -> Any:
        if not jax.tree.leaves(params):
            # optax.tree.map_params asks for a state of the same structure, and
            # optax.partition may leave nothing to a transformation.
            return AgreementState(_blank(Groups((), ("",), False), int(k), params))
        groups = grouping.make_groups(params, per_layer, mask)
        return AgreementState(_blank(groups, int(k), params))

    def update(
        updates: Params, state: Any, params: Params | None = None, **extra_args: Any
    ) -> tuple[Params, Any]:
        del extra_args
        if not jax.tree.leaves(updates):
            return updates, state
        _check_stacked(updates, params, k)
        shapes = jax.tree.map(lambda g: g[0], updates) if params is None else params
        groups = grouping.make_groups(shapes, per_layer, mask)
        leaves = grouping.pick(groups, updates)
        sums, info = stacked.combine(groups, rule, leaves, int(val_index))
        update = grouping.put_gradient(groups, sums, shapes)
        dtype = grouping.accumulator(*grouping.pick(groups, shapes))
        return update, AgreementState(_cast(stacked.shown(groups, info), dtype))

    return Aggregator(init, update)


def bilevel_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    k: int = 8,
    lam: Scalar = 1.0,
    mu: Scalar = 0.01,
    momentum: Scalar | None = 0.9,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Return the thesis' optimizer for k stacked gradients: weighting, decay, momentum.

    With gradients from `value_and_grad`, which are weighted already, take `optax.sgd`.

    Args:
      learning_rate: epsilon, a number or a schedule; |w|_1 = 1 keeps those of SGD.
      k: mini-batches a step; see `scale_by_agreement`.
      lam: lambda-hat; see `solve_weights`.
      mu: mu-hat; see there.
      momentum: of the weighted gradients; None for none.
      weight_decay: added to the weighted gradient as ``weight_decay * params``, before
        the momentum. The released code has 5e-4.

    Returns:
      The optimizer.

    References:
      Thesis section 8.3, eq. 8.11.
    """
    return optax.chain(
        scale_by_agreement(k, lam=lam, mu=mu),
        optax.add_decayed_weights(weight_decay),
        optax.sgd(learning_rate, momentum=momentum),
    )


def check_count(k: Any) -> None:
    """Raise if k is no number of mini-batches.

    Raises:
      TypeError: it is no Python integer.
      ValueError: it is below 2.
    """
    if not isinstance(k, numbers.Integral):
        raise TypeError(
            f"k must be a Python int, as shapes are static; got {k}. {_STATIC_ARGS}"
        )
    if k < 2:
        raise ValueError(
            f"k must be at least 2, one mini-batch for validation and one for "
            f"training; got {k}."
        )


def _check_stacked(updates: Params, params: Params | None, k: int) -> None:
    """Raise a ValueError unless each gradient has the shape (k, *parameter)."""
    given = jax.tree.leaves_with_path(updates)
    wanted = given if params is None else jax.tree.leaves_with_path(params)
    _check_same_names(map(_name, given), map(_name, wanted))
    for (path, gradient), (_, param) in zip(given, wanted, strict=True):
        shape = jnp.shape(gradient)
        expected = (k, *(shape[1:] if params is None else jnp.shape(param)))
        if shape != expected:
            raise ValueError(
                f"scale_by_agreement expects k={k} stacked gradients, of shape "
                f"{expected} for {jax.tree_util.keystr(path)}; got {shape}. Make them "
                "with jax.vmap(jax.grad(loss), (None, 0)), put it first in the chain "
                "and never inside of optax.MultiSteps; gradients of "
                "bilevel.value_and_grad are weighted already and do not need it."
            )


def _name(path_and_leaf: tuple[Any, Any]) -> str:
    return jax.tree_util.keystr(path_and_leaf[0]) or "one array"


def _check_same_names(gradients: Iterable[str], params: Iterable[str]) -> None:
    """Raise a ValueError unless the leaves of the two trees have the same names."""
    pairs = itertools.zip_longest(gradients, params, fillvalue="nothing")
    for gradient, param in pairs:
        if gradient != param:
            raise ValueError(
                "gradients and params must be trees of the same structure; got "
                f"{gradient} in the gradients where params have {param}. Pass to "
                "update the params that the gradients were taken of; freeze some of "
                "them with mask=, not by leaving them out."
            )


def _cast(info: Info, dtype: Any) -> Info:
    """Return the numbers in the dtype of the first state, whatever lam and mu are."""

    def cast(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(cast, info)


def _blank(groups: Groups, k: int, params: Params) -> Info:
    """Return an Info of zeros, so that the state's shapes never change."""
    leaves = grouping.pick(groups, params)
    dtype = grouping.accumulator(*leaves)
    lead = (len(groups.names),) if groups.per_layer else ()

    def zeros(*shape: int, dtype: Any = dtype) -> Array:
        # Each field gets a buffer of its own, as none can be donated twice.
        return jnp.zeros((*lead, *shape), dtype)

    return Info(
        weights=zeros(k - 1),
        cosine=zeros(k - 1),
        val_norm=zeros(),
        grad_norms=zeros(k - 1),
        l1=zeros(),
        num_negative=zeros(dtype=jnp.int32),
        skipped=zeros(dtype=bool),
    )
