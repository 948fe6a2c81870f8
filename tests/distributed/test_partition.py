"""The state on meshes of several shapes: its shardings, its traffic, its numbers."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import trees
from jaxssl.aot import collectives
from jaxssl.checkpoint import store as checkpoints
from jaxssl.data import pipeline
from jaxssl.distributed import mesh as meshes
from jaxssl.distributed import partition
from jaxssl.errors import UserError
from jaxssl.train import state_init, step
from jaxssl.types import TrainState
from tests.tasks import TASKS

MESHES = ((1, 1), (8, 1), (4, 2), (2, 4))
WIDE = ("dense/kernel", ("", "model"))
LAYOUTS = {
    "replicated": {},
    "fsdp": {"params": "fsdp"},
    "rules": {"rules": (WIDE,)},
    "both": {"params": "fsdp", "rules": (("dense/kernel", ("data", "model")),)},
}


@pytest.fixture(autouse=True)
def _split_small_leaves(monkeypatch):
    monkeypatch.setattr(partition, "MIN_SIZE", 64)


def lay(shape, layout="replicated"):
    return meshes.MeshConfig(data=shape[0], model=shape[1], **LAYOUTS[layout])


def prepare(task, spec, layout):
    """Return the first state, its shapes and the compiled step on a mesh."""
    mesh = meshes.make_mesh(layout)
    abstract = state_init.make_abstract(task, spec, mesh, layout)
    program = step.make_program(task, abstract, spec, mesh)
    return state_init.init(task, spec, abstract, seed=3), abstract, program, mesh


def advance(task, batches, layout):
    """Take one step for each batch; return the metrics of each and the last state."""
    spec = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batches[0].items()}
    state, _, program, mesh = prepare(task, spec, layout)
    key = jax.device_put(state_init.make_keys(3)[1], meshes.replicated(mesh))
    run, sums = program.compile(), []
    for batch in batches:
        rows = meshes.to_devices(batch, mesh)
        state, meter = run(state, program.empty, rows, key)
        sums.append({name: float(x) for name, x in meter.sums.items()})
    return sums, state


@pytest.fixture(scope="module")
def batches(tiny):
    with pipeline.batches(tiny.make_source(), batch_size=8, seed=3) as rows:
        return [next(rows) for _ in range(5)]


@pytest.fixture(scope="module")
def alone(tiny, batches):
    return advance(tiny.make_task(), batches, lay((1, 1)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", MESHES[1:])
def test_losses_know_no_mesh(tiny, batches, alone, shape, layout):
    metrics, last = alone
    sums, state = advance(tiny.make_task(), batches, lay(shape, layout))
    for one, other in zip(metrics, sums, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def sgd(_player):
    return optax.sgd(1e-2, momentum=0.9)


@functools.cache
def learned(name, data, model, params):
    task, batch = TASKS[name](sgd, batch_size=16)
    rules = ((r"(fc|dense)\w*/kernel", ("", "model")),) if model > 1 else ()
    layout = meshes.MeshConfig(data=data, model=model, params=params, rules=rules)
    return advance(task, [batch] * 3, layout)


@pytest.mark.parametrize(
    ("data", "model", "params"),
    [
        pytest.param(4, 1, "fsdp", marks=pytest.mark.slow),
        (2, 2, "replicated"),
        (2, 2, "fsdp"),
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("transformations/all", marks=pytest.mark.slow),
        "classify/bilevel",
    ],
)
def test_methods_learn_the_same_when_their_state_is_split(name, data, model, params):
    alone, _ = learned(name, 1, 1, "replicated")
    sums, state = learned(name, data, model, params)
    assert any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(state))
    for one, other in zip(alone, sums, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


def described(state):
    return dict(zip(trees.describe(state), jax.tree.leaves(state), strict=True))


@pytest.fixture(scope="module")
def spec(batches):
    return {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batches[0].items()}


def test_leaves_are_really_split_and_optimizers_follow(tiny, spec):
    state, _, program, mesh = prepare(tiny.make_task(), spec, lay((4, 2), "both"))
    wanted = {"dense/kernel": (12, 4), "logits/kernel": (8, 3), "logits/bias": (3,)}
    key = jax.device_put(state_init.make_keys(3)[1], meshes.replicated(mesh))
    zeros = {n: np.zeros(s.shape, s.dtype) for n, s in spec.items()}
    rows = meshes.to_devices(zeros, mesh)
    for steps in range(2):
        if steps:
            state, _ = program.compile()(state, program.empty, rows, key)
        leaves = described(state)
        for path, shape in wanted.items():
            copies = [leaf for name, leaf in leaves.items() if name.endswith(path)]
            assert len(copies) == 3  # The parameter and Adam's two averages.
            for leaf in copies:
                shapes = {shard.data.shape for shard in leaf.addressable_shards}
                assert shapes == {shape}, path
        assert leaves["stats/classifier/mean"].is_fully_replicated
        assert leaves["step"].is_fully_replicated


def test_the_first_state_is_the_same_on_every_mesh(tiny, spec, bits):
    states = [
        prepare(tiny.make_task(), spec, lay(shape, layout))[0]
        for shape, layout in (((1, 1), "replicated"), ((8, 1), "fsdp"))
    ]
    assert bits(states[0]) == bits(states[1])


@pytest.mark.parametrize("layout", ["replicated", "fsdp"])
def test_the_state_that_goes_in_is_donated(tiny, spec, layout):
    _, abstract, program, _ = prepare(tiny.make_task(), spec, lay((8, 1), layout))
    own = sum(
        np.prod(x.sharding.shard_shape(x.shape), dtype=int) * x.dtype.itemsize
        for x in jax.tree.leaves(abstract)
    )
    assert program.compile().memory_analysis().alias_size_in_bytes >= own


def test_data_parallel_traffic_is_one_sum_of_gradients_and_statistics():
    task, batch = TASKS["classify"](sgd, batch_size=16)
    spec = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batch.items()}
    mesh = meshes.make_mesh(meshes.MeshConfig())
    abstract = state_init.make_abstract(task, spec, mesh)
    traced, _ = step.trace(task, abstract, spec, mesh)
    traffic = collectives.collectives(traced.lower().compile().as_text())
    assert traffic.keys() == {"all-reduce"}
    leaves = jax.tree.leaves((abstract.params, abstract.stats))
    wanted = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    assert wanted <= traffic["all-reduce"].size <= 1.05 * wanted


def abstract_state(**params):
    params = {"net": {k: jax.ShapeDtypeStruct(s, "float32") for k, s in params.items()}}
    tx = {"net": jax.eval_shape(optax.adam(1e-3).init, params["net"])}
    step = jax.ShapeDtypeStruct((), "int32")
    return TrainState(step, params, {"net": {}}, tx)


def specs(state, layout):
    placed = partition.place(state, meshes.make_mesh(layout), layout)
    leaves = described(placed).items()
    return {path: tuple(leaf.sharding.spec) for path, leaf in leaves}


def test_fsdp_splits_the_largest_axis_that_fits():
    state = abstract_state(
        a=(3, 3, 8, 16), b=(17, 8), c=(17, 19), d=(8,), e=(16, 16), f=(640, 9)
    )
    placed = specs(state, meshes.MeshConfig(data=8, params="fsdp"))
    assert placed["params/net/a"] == (None, None, None, "data")
    assert placed["params/net/b"] == (None, "data")
    assert placed["params/net/c"] == ()  # 8 divides neither axis.
    assert placed["params/net/d"] == ()  # Small.
    assert placed["params/net/e"] == (None, "data")
    assert placed["params/net/f"] == ("data",)
    for path, spec in placed.items():
        if path.startswith("opt_state") and path[-2:] in ("/a", "/b", "/f"):
            assert spec == placed[f"params/net/{path[-1]}"], path


def test_extra_lies_where_its_parameter_lies():
    """Averaged weights follow the weights; all else is replicated, or has a rule."""
    state = abstract_state(a=(8, 16), b=(8, 8))
    leaf = jax.ShapeDtypeStruct((8, 16), "float32")
    history = jax.ShapeDtypeStruct((64, 8, 8, 3), "uint8")
    extra = {
        "net": {"average": {"a": leaf, "b": leaf}},
        "average": {"net": {"a": leaf}, "other": {"a": leaf}},
        "history": history,
        "buffer": history,
    }
    rules = (("params/net/a", ("data", "model")), ("extra/buffer", ("data",)))
    config = meshes.MeshConfig(data=4, model=2, rules=rules, params="fsdp")
    placed = specs(state._replace(extra=extra), config)
    assert placed["params/net/b"] == (None, "data")
    assert placed["extra/net/average/a"] == ("data", "model")
    assert placed["extra/average/net/a"] == ("data", "model")
    assert placed["extra/net/average/b"] == ()  # Its shape is not that of b.
    assert placed["extra/average/other/a"] == ()  # There is no player other.
    assert placed["extra/history"] == ()
    assert placed["extra/buffer"] == ("data",)


def test_the_first_rule_counts():
    state = abstract_state(a=(8, 8), ab=(8, 8))
    rules = (("net/ab", ("model",)), ("net/a", ("", "model")))
    placed = specs(state, meshes.MeshConfig(data=4, model=2, rules=rules))
    assert placed["params/net/ab"] == ("model",)
    assert placed["params/net/a"] == (None, "model")
    assert placed["opt_state/net/0/mu/ab"] == ("model",)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            ("net/a", ("model",)),
            r"'net/a' splits axis 0 of params/net/a over mesh.model, but 2 does not "
            r"divide 7 \(its shape is \(7, 8\)\)",
        ),
        (("net/a", ("", "", "model")), r"gives 3 axes to params/net/a, .* \(7, 8\)"),
        (("net/b", ("model",)), r"'net/b' is the first rule of no leaf; .*net/a"),
    ],
)
def test_rules_that_do_not_fit_are_refused_by_name(rule, message):
    layout = meshes.MeshConfig(data=4, model=2, rules=(rule,))
    with pytest.raises(UserError, match=message):
        specs(abstract_state(a=(7, 8)), layout)


def test_how_the_state_lies_is_told():
    layout = meshes.MeshConfig(data=4, model=2, params="fsdp")
    mesh = meshes.make_mesh(layout)
    placed = partition.place(abstract_state(a=(64, 64), b=(3,)), mesh, layout)
    line = partition.describe(placed, mesh)
    assert "mesh: data 4 x model 2; 3 of 8 leaves of the state are split" in line
    assert "no rule uses model, so its devices repeat each other's work" in line


@pytest.mark.parametrize("layout", ["fsdp", "both"])
def test_local_puts_a_split_state_together(tiny, spec, bits, layout):
    state, *_ = prepare(tiny.make_task(), spec, lay((4, 2), layout))
    here = meshes.local(state)
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(here))
    assert bits(here) == bits(state)


PAIRS = [
    (((1, 1), "replicated"), ((8, 1), "fsdp")),
    (((8, 1), "fsdp"), ((1, 1), "replicated")),
    (((2, 1), "fsdp"), ((4, 2), "both")),
    (((4, 2), "both"), ((2, 4), "rules")),
    (((2, 4), "rules"), ((2, 2), "fsdp")),
    (((2, 2), "both"), ((8, 1), "replicated")),
    (((1, 4), "rules"), ((4, 1), "fsdp")),
    (((8, 1), "replicated"), ((1, 4), "rules")),
]


def lay_abstract(task, spec, layout):
    return state_init.make_abstract(task, spec, meshes.make_mesh(layout), layout)


def fill(abstract):
    """Return a state of random numbers."""
    leaves, tree = jax.tree.flatten(abstract)
    rng = np.random.default_rng(0)
    values = [
        jax.device_put((1e3 * rng.random(x.shape)).astype(x.dtype), x.sharding)
        for x in leaves
    ]
    return jax.tree.unflatten(tree, values)._replace(step=jnp.int32(2))


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_checkpoint_fits_any_mesh(tiny, spec, tmp_path, bits, before, after, faults):
    task = tiny.make_task()
    saved = fill(lay_abstract(task, spec, lay(*before)))
    with checkpoints.open_store(tmp_path, keep=2) as store:
        checkpoints.save(store, saved)
    wanted = lay_abstract(task, spec, lay(*after))
    restored = checkpoints.restore(tmp_path, 2, wanted)
    assert bits(restored) == bits(saved)
    pairs = zip(jax.tree.leaves(restored), jax.tree.leaves(wanted), strict=True)
    for leaf, like in pairs:
        assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
    faults.record("F15", injected=1, survived=1)


def test_a_run_goes_on_with_another_mesh_and_layout(tiny, fit, tmp_path, faults):
    def train(folder, layout, steps):
        out = io.StringIO()
        accuracy = tiny.make_eval(tiny.make_task(), tiny.make_source())
        state = fit(
            tmp_path / folder,
            layout=layout,
            evals={"online": accuracy},
            recipe=None,
            stream=out,
            c={"num_steps": steps},
        )
        return state, out.getvalue()

    alone, _ = train("alone", lay((1, 1)), 8)
    train("moved", lay((8, 1), "fsdp"), 4)
    state, output = train("moved", lay((2, 4), "both"), 8)
    assert "going on after step 4" in output
    assert "mesh: data 2 x model 4; 3 of" in output
    assert "online/accuracy" in output
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert jnp.all(state.step == 8)
    faults.record("F15", injected=1, survived=1)
