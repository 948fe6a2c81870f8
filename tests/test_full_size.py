"""The paper-size configs at full size, on generated images of the right shape.

    make test-slow PYTEST_ARGS="-s tests/test_full_size.py"

prints the memory that each step needs.
"""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxssl import builders
from jaxssl.data.sources import ArraySource
from jaxssl.train import recipe

CONFIGS = Path(__file__).parent.parent / "configs"
GENERATED = 192

SETS = {
    "tfds:stl10": (96, 10),
    "tfds:imagenet2012": (176, 1000),
    "tfds:celeb_a": (128, 40),
    "tfds:places365_small": (256, 365),
    "tfds:cifar10": (32, 10),
    "tfds:voc/2007": (256, 20),
}
"""Side of the images that reach the step, and the number of classes or attributes."""


def generate(section, *splits):
    """Stand in for ``builders.load_splits``: smooth random images, labels in turn."""
    size, classes = SETS[section.name]
    size = section.get("load_size", size)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (GENERATED, -(-size // 8), -(-size // 8), 3))
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :size, :size]
    # Enough images of a class for eight mini-batches with the same labels.
    labels = np.arange(GENERATED) % min(classes, GENERATED // 8)
    if section.name in ("tfds:celeb_a", "tfds:voc/2007"):
        labels = rng.integers(0, 2, (GENERATED, classes))
    names = [f"class {i}" for i in range(classes)]
    return [
        ArraySource(images.astype(np.uint8), labels, name=split, class_names=names)
        for split in splits
    ]


def build(name, monkeypatch, *overrides):
    monkeypatch.setattr(builders, "load_splits", generate)
    chosen = recipe.load(str(CONFIGS / name), overrides)
    return chosen.config, recipe.build(chosen)


def batch_of(experiment, size):
    ids = np.arange(size) % GENERATED
    return {**experiment.train_set.take(ids), "id": ids.astype(np.int32)}


def compile_step(experiment, batch):
    task, key = experiment.task, jax.random.key(0)
    abstract = jax.eval_shape(task.init, key, batch)
    step = jax.jit(task.step, donate_argnums=0)
    return step.lower(abstract, batch, key).compile()


def report(name, compiled):
    """Print what the compiled step needs, in GiB."""
    need = compiled.memory_analysis()
    state = need.argument_size_in_bytes / 2**30
    temporary = need.temp_size_in_bytes / 2**30
    print(f"{name}: state and batch {state:.2f} GiB, temporary {temporary:.2f} GiB")
    assert need.temp_size_in_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "transformations_stl10.py",
        "transformations_stl10.py:rot_warp_lci,paper",
        "transformations_resnet34_stl10.py",
        "transformations_celeb_a.py",
        "transformations_imagenet2012.py",
    ],
)
def test_pretraining_takes_a_step_and_an_evaluation(name, monkeypatch):
    config, experiment = build(name, monkeypatch, "--config.eval.pretext.batch_size=32")
    batch = batch_of(experiment, config.train.batch_size)
    compiled = compile_step(experiment, batch)
    report(name, compiled)
    if "resnet34" in name:
        # Its step needs 18 GiB, more than a laptop has: it runs on an eighth of the
        # batch, all else at full size.
        batch = batch_of(experiment, config.train.batch_size // 8)
        compiled = compile_step(experiment, batch)
    state = jax.jit(experiment.task.init)(jax.random.key(1), batch)
    state, metrics = compiled(state, batch, jax.random.key(2))
    assert int(state.step) == 1
    for key, value in metrics.items():
        assert np.isfinite(value), key
    for name, evaluate in experiment.online_evals.items():
        assert evaluate(state).scalars, name
    found = experiment.evals["pretext"](state)
    assert 0 <= found.scalars["accuracy"] <= 1
    assert found.arrays["confusion"].sum() == GENERATED * len(config.method.classes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "probe_stl10.py",
        "probe_imagenet2012.py",
        "probe_places365.py",
        "probe_celeb_a.py",
        "classify_resnet34_stl10.py",
    ],
)
def test_probes_and_fine_tuning_take_a_step_and_an_evaluation(name, monkeypatch):
    config, experiment = build(
        name, monkeypatch, *["--config.init_from.classifier=random"]
    )
    batch = batch_of(experiment, config.train.batch_size)
    compiled = compile_step(experiment, batch)
    report(name, compiled)
    state = jax.jit(experiment.task.init)(jax.random.key(1), batch)
    state, metrics = compiled(state, batch, jax.random.key(2))
    for key, value in metrics.items():
        assert np.isfinite(value), key
    evaluation = "accuracy" if name.startswith("classify") else "linear_classifiers"
    for key, value in experiment.evals[evaluation](state).scalars.items():
        assert 0 <= value <= 1, key


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "classify_cifar10.py:inception,bilevel",
        "classify_cifar10.py:inception,sgd",
        "classify_cifar10.py:cifarnet,ghost",
        "classify_cifar10.py:preact_resnet18,bilevel_mixup",
        "classify_voc2007.py:bilevel",
        "classify_imagenet2012.py:bilevel",
    ],
)
def test_learners_take_a_step_and_an_evaluation(name, monkeypatch):
    config, experiment = build(name, monkeypatch)
    batch = batch_of(experiment, config.train.batch_size)
    if experiment.order is not None:
        ids = experiment.order(0)
        batch = {**experiment.train_set.take(ids), "id": ids.astype(np.int32)}
    compiled = compile_step(experiment, batch)
    report(name, compiled)
    state = jax.jit(experiment.task.init)(jax.random.key(1), batch)
    state, metrics = compiled(state, batch, jax.random.key(2))
    for key, value in metrics.items():
        assert np.isfinite(value), key
    for key, value in experiment.evals["test"](state).scalars.items():
        assert 0 <= value <= 1, key


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_config_builds(path, monkeypatch):
    """Shapes only: the quick part of this file, in the default suite."""
    if "fashion" not in path.stem:
        monkeypatch.setattr(builders, "load_splits", generate)
    overrides = []
    if path.stem.startswith("probe"):
        overrides = ["--config.init_from.classifier=random"]
    chosen = recipe.load(str(path), overrides)
    experiment = recipe.build(chosen)
    assert experiment.evals
    record = experiment.train_set[0]
    size = chosen.config.train.batch_size
    batch = {
        "image": jax.ShapeDtypeStruct((size, *record["image"].shape), np.uint8),
        "label": jax.ShapeDtypeStruct((size, *record["label"].shape), np.int32),
        "id": jax.ShapeDtypeStruct((size,), np.int32),
    }
    key = jax.random.key(0)
    state = jax.eval_shape(experiment.task.init, key, batch)
    after, metrics = jax.eval_shape(experiment.task.step, state, batch, key)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics
