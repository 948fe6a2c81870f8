"""The frozen probe and fine-tuning start from another run's player "classifier"."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.checkpoint import init_from as init_from_lib
from jaxssl.checkpoint import store as checkpoints
from jaxssl.errors import UserError
from jaxssl.methods import classify, probe
from jaxssl.models.alexnet import alexnet
from jaxssl.types import Network

TINY = {"width": 0.0625, "fc_features": 8, "stem_kernel": 5, "init": "he"}


def classifier(num_classes, crop_size):
    networks = classify.Networks(alexnet(num_classes, **TINY), alexnet(None, **TINY))
    config = classify.Config(crop_size=crop_size)
    return classify.make_task(config, networks, {"classifier": optax.sgd(0.1)})


def start(task, seed, size=40):
    batch = {
        "image": jnp.zeros((2, size, size, 3), jnp.uint8),
        "label": jnp.zeros((2,), jnp.int32),
        "id": jnp.arange(2),
    }
    return jax.jit(task.init)(jax.random.key(seed), batch)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A finished run whose statistics differ from the initial ones."""
    workdir = tmp_path_factory.mktemp("pretrained")
    state = start(classifier(6, 32), seed=0)
    stats = jax.tree.map(lambda x: x + 0.25, state.stats)
    state = state._replace(step=jnp.asarray(5), stats=stats)
    with checkpoints.open_store(workdir, keep=2) as store:
        checkpoints.save(store, state)
    return workdir, state


def restore(workdir, state, head=("fc1", "fc2", "logits")):
    lines, heads = [], {"classifier": head}
    loaded = init_from_lib.restore_players(
        workdir, ["classifier"], state, heads, lines.append
    )
    return loaded, lines


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_probe_takes_the_trunk_and_its_features_are_the_same(pretrained):
    workdir, source = pretrained
    config = probe.Config(num_classes=3, crop_size=32)
    task = probe.make_task(config, alexnet(None, **TINY), {"probe": optax.sgd(0.1)})
    loaded, lines = restore(workdir, start(task, seed=1))
    assert set(loaded.params["classifier"]) == {f"conv{i}" for i in range(1, 6)}
    for endpoint, layer in loaded.params["classifier"].items():
        equal(layer, source.params["classifier"][endpoint])
    image = jax.random.randint(jax.random.key(2), (2, 40, 40, 3), 0, 256)
    image = image.astype(jnp.uint8)
    expected = jax.jit(classifier(6, 32).predict_fns["features"])(source, image)
    equal(jax.jit(task.predict_fns["features"])(loaded, image), expected)
    assert len(lines) == 1


def test_fine_tuning_keeps_a_fresh_head_for_other_classes(pretrained):
    workdir, source = pretrained
    fresh = start(classifier(10, 32), seed=1)
    loaded, lines = restore(workdir, fresh)
    old, new = source.params["classifier"], loaded.params["classifier"]
    for layer in set(old) - {"logits"}:
        equal(new[layer], old[layer])
    equal(loaded.stats, source.stats)
    kernels = new["logits"]["kernel"], fresh.params["classifier"]["logits"]["kernel"]
    equal(*kernels)
    assert any("logits/kernel keeps its fresh values" in line for line in lines)


def test_fine_tuning_on_larger_crops_keeps_a_fresh_first_dense_layer(pretrained):
    workdir, source = pretrained
    loaded, _ = restore(workdir, start(classifier(6, 40), seed=1))
    old, new = source.params["classifier"], loaded.params["classifier"]
    assert jax.tree.map(jnp.shape, new["fc1"]) != jax.tree.map(jnp.shape, old["fc1"])
    equal(new["conv5"], old["conv5"])
    equal(new["logits"], old["logits"])


@pytest.mark.parametrize("by_player", [True, False])
def test_averaged_weights_that_stay_fresh_are_named(pretrained, by_player):
    workdir, source = pretrained
    average = {"classifier": {"kernel": jnp.zeros(2)}}
    if not by_player:
        average = {"conv5": source.params["classifier"]["conv5"]}
    fresh = source._replace(extra={"average": average, "count": jnp.zeros(())})
    loaded, lines = restore(workdir, fresh)
    equal(loaded.extra, fresh.extra)
    count = len(jax.tree.leaves(average))
    (line,) = lines[1:]
    assert line.startswith("classifier: extra/average/")
    assert line.endswith(f"all {count} of its arrays in extra keep their fresh values.")
    assert len(restore(workdir, source)[1]) == 1


def test_another_trunk_is_refused(pretrained):
    workdir, source = pretrained
    params = dict(source.params["classifier"])
    params["conv5"] = jax.tree.map(lambda x: x[..., :-1], params["conv5"])
    other = source._replace(params={"classifier": params})
    with pytest.raises(UserError, match=r"classifier/conv5.*Use the same network"):
        restore(workdir, other)


# --- A head that is called otherwise


def prototypes(num, width=4):
    """A trunk of one layer, a projector, and prototypes with running counts."""

    def init(key, x):
        keys = jax.random.split(key, 3)
        params = {
            "trunk": {"kernel": jax.random.normal(keys[0], (x.shape[-1], 4))},
            "projector": {"kernel": jax.random.normal(keys[1], (4, width))},
            "prototypes": {"kernel": jax.random.normal(keys[2], (width, num))},
        }
        stats = {
            "trunk": {"mean": jnp.zeros(4)},
            "prototypes": {"counts": jnp.zeros(num)},
        }
        return params, stats

    def apply(params, stats, x, *, train, key=None):
        for layer in params.values():
            x = x @ layer["kernel"]
        return {"logits": x}, stats

    return Network(init, apply, ("projector", "prototypes"))


def start_prototypes(network, seed):
    networks = classify.Networks(network, network)
    config = classify.Config(crop_size=8)
    task = classify.make_task(config, networks, {"classifier": optax.sgd(0.1)})
    return start(task, seed, size=8)


@pytest.fixture(scope="module")
def clustered(tmp_path_factory):
    """A finished run of five prototypes."""
    workdir = tmp_path_factory.mktemp("clustered")
    state = start_prototypes(prototypes(5), seed=0)
    with checkpoints.open_store(workdir, keep=2) as store:
        checkpoints.save(store, state._replace(step=jnp.asarray(1)))
    return workdir, state


def test_the_network_names_the_layers_that_stay_behind(clustered):
    workdir, source = clustered
    network = prototypes(7, width=3)
    fresh = start_prototypes(network, seed=1)
    loaded, lines = restore(workdir, fresh, network.head)
    old, new = source.params["classifier"], loaded.params["classifier"]
    equal(new["trunk"], old["trunk"])
    for layer in network.head:
        equal(new[layer], fresh.params["classifier"][layer])
    equal(loaded.stats["classifier"], fresh.stats["classifier"])
    assert [line.split()[0] for line in lines[1:]] == [
        "params/classifier/projector/kernel",
        "params/classifier/prototypes/kernel",
        "stats/classifier/prototypes/counts",
    ]


@pytest.mark.parametrize(
    ("head", "exception"),
    [((), r"network\.$"), (("projector",), r"only its head may differ: projector\.$")],
)
def test_a_layer_outside_of_the_head_has_to_fit(clustered, head, exception):
    fresh = start_prototypes(prototypes(7), seed=1)
    with pytest.raises(
        UserError, match=rf"prototypes/kernel is .*{exception}"
    ) as error:
        restore(clustered[0], fresh, head)
    assert "\n" not in str(error.value)
