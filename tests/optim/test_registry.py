"""The kind of an optimizer follows from its section, never from the player's name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.errors import UserError
from jaxssl.optim import rmsprop
from jaxssl.optim.registry import OPTIMIZERS, make_optimizers

STEPS = 4
PARAMS = {"dense": {"kernel": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)}}


def walk(optimizer):
    """Return the parameters after some steps along gradients of a bowl."""
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(STEPS):
        grads = jax.tree.map(lambda p: p - 0.3, params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params["dense"]["kernel"])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_players_name_changes_nothing(kind):
    players = ("classifier", "generator", "probe")
    config = {"optim": {p: {"kind": kind, "learning_rate": 0.02} for p in players}}
    optimizers = make_optimizers(config, players, STEPS)
    assert tuple(optimizers) == players
    first, *others = [walk(optimizer) for optimizer in optimizers.values()]
    assert np.abs(first - PARAMS["dense"]["kernel"]).max() > 1e-3
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_every_kind_is_another_optimizer():
    found = {}
    for kind in OPTIMIZERS:
        config = {"optim": {"net": {"kind": kind, "learning_rate": 0.02}}}
        found[kind] = walk(make_optimizers(config, ["net"], STEPS)["net"])
    for a in found:
        for b in found:
            assert (a == b) == np.array_equal(found[a], found[b])


def test_settings_of_the_section_arrive():
    settings = {"kind": "sgd", "learning_rate": 0.5, "schedule": "constant"}
    settings |= {"momentum": 0.0, "weight_decay": 0.0}
    optimizer = make_optimizers({"optim": {"net": settings}}, ["net"], STEPS)["net"]
    literal = np.asarray(PARAMS["dense"]["kernel"])
    for _ in range(STEPS):
        literal = literal - 0.5 * (literal - 0.3)
    np.testing.assert_allclose(walk(optimizer), literal, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "adamm"}, r"optim\.net\.kind is 'adamm'; allowed: .*mean 'adam'"),
        ({}, r"optim\.net\.kind is missing; allowed: adam, adamw, rmsprop, sgd\."),
        ({"kind": "adam", "schedule": "linear"}, r"optim\.net\.schedule is not a set"),
        ({"kind": "sgd", "momentum": 1.0}, r"optim\.net\.momentum is 1\.0; it must be"),
    ],
)
def test_what_is_impossible_is_one_line(settings, words):
    with pytest.raises(UserError, match=words):
        make_optimizers({"optim": {"net": settings}}, ["net"], STEPS)
    with pytest.raises(UserError, match=r"optim\.other\.kind is missing"):
        make_optimizers({"optim": {"net": settings}}, ["other"], STEPS)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_rmsprop_is_the_literal_loop(momentum):
    config = rmsprop.RMSPropConfig(
        learning_rate=0.02, decay=0.8, momentum=momentum, eps=1e-3
    )
    literal = np.asarray(PARAMS["dense"]["kernel"], np.float64)
    mean, speed = np.zeros_like(literal), np.zeros_like(literal)
    for _ in range(STEPS):
        gradient = literal - 0.3
        mean = 0.8 * mean + 0.2 * gradient**2
        speed = momentum * speed + 0.02 * gradient / np.sqrt(mean + 1e-3)
        literal = literal - speed
    np.testing.assert_allclose(walk(rmsprop.rmsprop(config)), literal, rtol=1e-5)
