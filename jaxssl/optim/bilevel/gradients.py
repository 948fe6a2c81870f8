"""The weighted gradient of a loss, without a stack of gradients."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl.optim.bilevel import groups as grouping
from jaxssl.optim.bilevel import sharded, strategies, weights
from jaxssl.optim.bilevel.agreement import check_count
from jaxssl.optim.bilevel.auto import LOOPS, run_in_loop
from jaxssl.optim.bilevel.groups import Labels, Mask
from jaxssl.optim.bilevel.problem import REDUCE_STATES, RNG_MODES, Problem, Side
from jaxssl.optim.bilevel.stacked import shown
from jaxssl.optim.bilevel.weights import Info, Rule, Scalar
from jaxssl.transforms import checks
from jaxssl.types import Array, Key, Params

STRATEGIES = ("auto", "scan", "loop", "vmap", "jvp", "shard")

BilevelValueAndGrad = Callable[..., tuple[Any, Params, Info]]
"""``(params, batch, state=None, key=None) -> (value, gradient, info)``."""

MeanValueAndGrad = Callable[..., tuple[Any, Params]]
"""``(params, batch, state=None, key=None) -> (value, gradient)``."""


def value_and_grad(
    loss_fn: Callable[..., Any],
    *,
    k: int = 8,
    lam: Scalar = 1.0,
    mu: Scalar = 0.01,
    strategy: str = "auto",
    has_aux: bool = False,
    solver: str = "diagonal",
    normalize: str | None = "l1",
    on_zero: str = "skip",
    finite_only: bool = False,
    per_layer: Labels = None,
    mask: Mask = None,
    rng_mode: str | None = None,
    reduce_state: str | None = None,
    unroll: int = 1,
    axis_name: str | None = None,
) -> BilevelValueAndGrad:
    """Make a function like `jax.value_and_grad` for k mini-batches at a time.

    It is called as ``value, gradient, info = f(params, batch, state=None, key=None)``.
    The leaves of ``batch`` are [k, B, ...], mini-batch 0 is for validation; see
    `LabelMatchedSampler` and `split_batch`. The gradient goes to any optimizer.

    ``value`` is what ``loss_fn`` returns, over the k mini-batches: the mean loss; one
    state, see ``reduce_state``; all aux, stacked to [k, ...].

    | strategy | memory besides activations | for |
    |---|---|---|
    | scan | 3 gradients | nearly everything; compiles one mini-batch twice |
    | loop | 3 gradients, if XLA schedules well | CPU with stock convolutions; small k |
    | vmap | k + 1 gradients | tiny dense networks and mini-batches |
    | jvp | 2 gradients, activations of all k | lam = inf, bandwidth-bound dense nets |
    | shard | 1 gradient, and 2/k of one for each mini-batch | one mini-batch a device |

    Args:
      loss_fn: ``loss_fn(params, minibatch)``, and ``state=`` and ``key=`` where those
        are asked for. It returns the mean loss over the mini-batch, a scalar; with
        ``reduce_state`` (loss, state), with ``has_aux`` (loss, aux), with both (loss,
        (state, aux)). Leave weight decay out of it: it would enter the inner products,
        and all mini-batches would agree on it.
      k: mini-batches a step, at least 2.
      lam: see `solve_weights`, also for all but the following.
      mu: see there.
      strategy: how; all give the same numbers, to 1e-5 for gradients between 1e-12 and
        1e12. "auto" is "scan", but on CPU "loop" if the network's convolutions would be
        slow in a loop (those of `jaxssl.ops` are not); it warns then.
      has_aux: whether ``loss_fn`` returns more than the loss.
      solver: see `solve_weights`; "exact" stores k gradients, whatever the strategy.
      normalize: see there.
      on_zero: see there; "validation" makes the gradient g_v itself, "uniform" takes
        memory for one more gradient.
      finite_only: see there. States, as of batch norm, are not filtered.
      per_layer: see `scale_by_agreement`.
      mask: see there; frozen parameters are not differentiated, their gradient is 0.
      rng_mode: None if ``loss_fn`` takes no key. "shared" gives all mini-batches the
        same one (thesis), "split" each its own, ``jax.random.fold_in(key, i)``
        (released code; ablation d of thesis table 8.1).
      reduce_state: None if ``loss_fn`` takes no state, such as batch-norm averages.
        "sequential": mini-batch i starts from the state of i - 1 (released code); in
        scan and loop only. "mean" and "last": all start from the same state, and their
        results are averaged, or the last one is taken.
      unroll: mini-batches that scan has in one turn; see `jax.lax.scan`.
      axis_name: for "shard": the axis of the `jax.shard_map` around the call, of size
        k. ``batch`` has the leading axis 1 there, and so has the aux that comes back;
        everything else comes back the same on all devices.

    Returns:
      The function. It raises a ValueError at trace time for a batch that is no stack of
      k mini-batches, and for a key or state that is missing or not asked for.

    Raises:
      TypeError: k is no Python integer.
      ValueError: a setting is impossible, or two do not go together.

    References:
      Thesis section 8.3, eqs. 8.10 and 8.11.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss_fn(w, x):
      ...     return jnp.mean((x @ w - 1.0) ** 2)
      >>> batch = jnp.arange(12.0).reshape(3, 2, 2) / 10
      >>> loss, gradient, info = value_and_grad(loss_fn, k=3)(jnp.zeros(2), batch)
      >>> gradient.shape, info.weights.shape
      ((2,), (2,))
    """
    check_count(k)
    rule = weights.make_rule(lam, mu, solver, normalize, on_zero, finite_only)
    _check_choices(strategy, STRATEGIES, rng_mode, reduce_state)
    _check_strategy(strategy, rule, per_layer, reduce_state, axis_name)

    def step(
        params: Params, batch: Any, state: Any = None, key: Key[Array, ""] | None = None
    ) -> tuple[Any, Params, Info]:
        _check_given("state", state, reduce_state, "reduce_state")
        _check_given("key", key, rng_mode, "rng_mode")
        _check_batch(batch, 1 if strategy == "shard" else k, strategy)
        groups = grouping.make_groups(params, per_layer, mask)
        problem = Problem(loss_fn, params, groups, has_aux, reduce_state, rng_mode, key)
        if axis_name is not None:
            found = sharded.exchange(problem, rule, batch, state, k, axis_name)
        else:
            found = _run(strategy, problem, rule, batch, state, unroll)
        leaves, side, info = found
        gradient = grouping.put_gradient(groups, leaves, params)
        return _value(problem, side), gradient, shown(groups, info)

    return step


def mean_value_and_grad(
    loss_fn: Callable[..., Any],
    *,
    k: int = 8,
    strategy: str = "auto",
    has_aux: bool = False,
    rng_mode: str | None = None,
    reduce_state: str | None = None,
    unroll: int = 1,
) -> MeanValueAndGrad:
    """Make a function that takes the plain mean of the k gradients: no weights.

    The baseline of `value_and_grad`: the same mini-batches, of which batch norm sees
    one at a time ("ghost" batches), the same keys and states, all k of them in the
    update. Small mini-batches with the same labels resist noise by themselves, so a
    gain of the weights is a gain over this. It is accumulation of gradients, too.

    Args:
      loss_fn: see `value_and_grad`, also for all the following.
      k: mini-batches a step, at least 2.
      strategy: "auto", "scan" or "loop"; both keep 2 gradients in memory.
      has_aux: see there.
      rng_mode: see there.
      reduce_state: see there.
      unroll: see there.

    Returns:
      The function, ``value, gradient = f(params, batch, state=None, key=None)``.

    Raises:
      TypeError: k is no Python integer.
      ValueError: a setting is impossible; also at trace time, as in `value_and_grad`.

    References:
      Hoffer et al., "Train longer, generalize better", 2017, for ghost batch norm.
    """
    check_count(k)
    _check_choices(strategy, LOOPS, rng_mode, reduce_state)

    def step(
        params: Params, batch: Any, state: Any = None, key: Key[Array, ""] | None = None
    ) -> tuple[Any, Params]:
        _check_given("state", state, reduce_state, "reduce_state")
        _check_given("key", key, rng_mode, "rng_mode")
        _check_batch(batch, k, strategy)
        groups = grouping.make_groups(params)
        problem = Problem(loss_fn, params, groups, has_aux, reduce_state, rng_mode, key)
        one_pass = functools.partial(strategies.plain_pass, problem)
        leaves, side = run_in_loop(one_pass, strategy, problem, batch, state, unroll)
        return _value(problem, side), grouping.put_gradient(groups, leaves, params)

    return step


def split_batch(batch: Any, *, k: int) -> Any:
    """Cut a batch of k * B examples into k mini-batches, in the order they lie in.

    Args:
      batch: leaves [k * B, ...].
      k: mini-batches.

    Returns:
      Leaves [k, B, ...]; mini-batch i holds the examples from i * B on. (The
      micro-batches of `optax.microbatch` take every k-th one instead.)

    Raises:
      ValueError: a leaf's length is no multiple of k.
    """

    def split(x):
        shape = jnp.shape(x)
        if not shape or shape[0] % k:
            raise ValueError(
                f"batch must have leading axes that k={k} divides; got shape {shape}. "
                "Drop the remainder."
            )
        return jnp.reshape(x, (k, shape[0] // k, *shape[1:]))

    return jax.tree.map(split, batch)


def _run(strategy: str, problem: Problem, rule: Rule, batch, state, unroll: int):
    """Call the strategy."""
    if strategy == "vmap":
        return strategies.vectorised(problem, rule, batch, state)
    if strategy == "jvp":
        return strategies.forward(problem, rule, batch, state)
    one_pass = functools.partial(strategies.one_pass, problem, rule)
    return run_in_loop(one_pass, strategy, problem, batch, state, unroll)


def _value(problem: Problem, side: Side) -> Any:
    """Return the mean loss and the rest in the form of ``loss_fn``."""
    loss = side.loss.mean()
    if problem.reduce_state is None:
        return (loss, side.aux) if problem.has_aux else loss
    return loss, ((side.state, side.aux) if problem.has_aux else side.state)


def _check_choices(strategy, strategies, rng_mode, reduce_state) -> None:
    checks.choice(strategy, strategies, "strategy")
    checks.choice(rng_mode, RNG_MODES, "rng_mode")
    checks.choice(reduce_state, REDUCE_STATES, "reduce_state")


def _check_strategy(strategy, rule: Rule, per_layer, reduce_state, axis_name) -> None:
    """Raise a ValueError for what a strategy cannot do."""
    if reduce_state == "sequential" and strategy in ("vmap", "jvp", "shard"):
        raise ValueError(
            f"reduce_state='sequential' needs one mini-batch after the other; got "
            f"strategy={strategy!r}. Take 'mean' or 'last', or strategy='scan'."
        )
    if strategy == "jvp":
        if not weights.is_infinite(rule.lam):
            raise ValueError(
                f"strategy='jvp' knows no |g_i|^2 and needs lam=float('inf'); got "
                f"lam={rule.lam}. Take strategy='scan' for a finite lam."
            )
        if per_layer is not None or rule.finite_only or rule.solver == "exact":
            raise ValueError(
                "strategy='jvp' has no gradient of a single mini-batch; it cannot do "
                "per_layer, finite_only or solver='exact'. Take strategy='scan'."
            )
    if (strategy == "shard") != (axis_name is not None):
        raise ValueError(
            f"axis_name and strategy='shard' belong together; got axis_name="
            f"{axis_name!r} and strategy={strategy!r}. Name the axis of the "
            "jax.shard_map around the call."
        )


def _check_given(name: str, value: Any, mode: str | None, setting: str) -> None:
    if (value is None) != (mode is None):
        raise ValueError(
            f"{name} must be passed if and only if {setting} is set; got {setting}="
            f"{mode!r} and {'no ' if value is None else 'a '}{name}. Set {setting} "
            f"where the function is made, and pass {name}= where it is called."
        )


def _check_batch(batch: Any, lead: int, strategy: str) -> None:
    for path, leaf in jax.tree.leaves_with_path(batch):
        shape = jnp.shape(leaf)
        if not shape or shape[0] != lead:
            what = "1 mini-batch a device" if strategy == "shard" else f"k={lead}"
            raise ValueError(
                f"batch must have leaves [k, B, ...], {what}; got shape {shape} at "
                f"{jax.tree_util.keystr(path) or 'the root'}. Cut a flat batch with "
                "bilevel.split_batch(batch, k=k)."
            )
    if not jax.tree.leaves(batch):
        raise ValueError("batch must hold at least one array; got none.")
