"""The paper-size configs at full size, on generated images of the right shape.

    make test-slow PYTEST_ARGS="-s tests/test_full_size.py"

prints the memory that each step needs.
"""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxssl.builders import common
from jaxssl.data import generated, pipeline
from jaxssl.run import config_file

CONFIGS = Path(__file__).parent.parent / "configs"
GENERATED = 192
LOAD_SPLITS = common.load_splits


def generate(config, *splits):
    """Stand in for ``common.load_splits``; few test images, so evaluations end."""
    options = {k: v for k, v in config.data.items() if k not in ("name", "data_dir")}
    name = config.data.name.removeprefix("tfds:")
    counts = {"test": GENERATED, "validation": GENERATED}
    return [
        generated.load(name, split=s, num_records=counts.get(s, 16 * 1000), **options)
        for s in splits
    ]


def build(name, monkeypatch, *overrides):
    monkeypatch.setattr(common, "load_splits", generate)
    chosen = config_file.load(str(CONFIGS / name), overrides)
    return chosen.config, config_file.build(chosen)


def first_rows(experiment, size):
    return pipeline.fetch(experiment.train_set, np.arange(size), max_bad=0).batch


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
    batch = first_rows(experiment, config.train.batch_size)
    compiled = compile_step(experiment, batch)
    report(name, compiled)
    if "resnet34" in name:
        # Its step needs 18 GiB, more than a laptop has: it runs on an eighth of the
        # batch, all else at full size.
        batch = first_rows(experiment, config.train.batch_size // 8)
        compiled = compile_step(experiment, batch)
    state = jax.jit(experiment.task.init)(jax.random.key(1), batch)
    state, metrics = compiled(state, batch, jax.random.key(2))
    assert int(state.step) == 1
    for key, value in metrics.items():
        assert np.isfinite(value), key
    for name, evaluate in experiment.online_evals.items():
        assert evaluate(state).metrics, name
    found = experiment.evals["pretext"](state)
    assert 0 <= found.metrics["accuracy"].value <= 1
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
    batch = first_rows(experiment, config.train.batch_size)
    compiled = compile_step(experiment, batch)
    report(name, compiled)
    state = jax.jit(experiment.task.init)(jax.random.key(1), batch)
    state, metrics = compiled(state, batch, jax.random.key(2))
    for key, value in metrics.items():
        assert np.isfinite(value), key
    evaluation = "accuracy" if name.startswith("classify") else "linear_classifiers"
    for key, metric in experiment.evals[evaluation](state).metrics.items():
        assert 0 <= metric.value <= 1, key


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
    batch = first_rows(experiment, config.train.batch_size)
    if experiment.order is not None:
        ids = experiment.order(0)
        batch = pipeline.fetch(experiment.train_set, ids, max_bad=0).batch
    compiled = compile_step(experiment, batch)
    report(name, compiled)
    state = jax.jit(experiment.task.init)(jax.random.key(1), batch)
    state, metrics = compiled(state, batch, jax.random.key(2))
    for key, value in metrics.items():
        assert np.isfinite(value), key
    for key, metric in experiment.evals["test"](state).metrics.items():
        assert 0 <= metric.value <= 1, key


ALIKE = (
    *("transformations_celeb_a", "transformations_imagenet2012"),
    *("transformations_resnet34_stl10", "classify_resnet34_stl10"),
    "classify_imagenet2012",
)
"""Their programs are that of ``transformations_stl10`` on images of another size."""


def load_few(config, *splits, **changes):
    """Take the place of ``common.load_splits``: few photos, generated images."""
    if not config.data.name.startswith("fashion"):
        return generate(config, *splits)
    if config.data.name == "fashion_on_photos":
        changes |= {"num_train": GENERATED, "num_test": GENERATED}
    return LOAD_SPLITS(config, *splits, **changes)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.stem in ALIKE else ())
        for path in sorted(CONFIGS.glob("*.py"))
    ],
    ids=lambda p: p.stem,
)
def test_every_config_builds(path, monkeypatch):
    """Shapes only: the quick part of this file, in the default suite."""
    monkeypatch.setattr(common, "load_splits", load_few)
    overrides = []
    if path.stem.startswith("probe"):
        overrides = ["--config.init_from.classifier=random"]
    elif "online" in config_file.load(str(path)).config.eval:
        overrides = [f"--config.eval.online.num_images={GENERATED}"]
    chosen = config_file.load(str(path), overrides)
    experiment = config_file.build(chosen)
    assert experiment.evals
    record = experiment.train_set.spec
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
