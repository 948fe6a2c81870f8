"""What the experiments' builders refuse, and what they leave out."""

import functools
import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxssl.builders import classify, feature_evals, probe, transformations
from jaxssl.config.compute import ComputeConfig
from jaxssl.data import corruption
from jaxssl.data.source import ArraySource, image_source
from jaxssl.errors import BadRecord, UserError
from jaxssl.evals.checked import CheckedEval
from jaxssl.models.alexnet import alexnet
from jaxssl.models.mlp import mlp
from jaxssl.train import fits
from jaxssl.types import EvalResult, Task, TrainState

SMALL = {"canvas_size": 24, "crop_size": 20, "patch_size": 16, "border": 2}
SMALL_TRUNK = {"width": 1 / 16, "groups": 1, "stem_kernel": 5, "stem_stride": 2}
ADAM = {"kind": "adam"}


def source(labels, names=("cat", "dog"), count=12):
    images = np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3), np.uint8)
    labels = np.resize(labels, count)
    return image_source(images, labels, name="pets", class_names=names)


class Damaged:
    """A source on disk whose first record cannot be decoded."""

    def __init__(self, good):
        self.good = good
        self.name, self.class_names = good.name, good.class_names
        self.spec, self.fingerprint = good.spec, "damaged"

    def __len__(self):
        return len(self.good)

    def read(self, index, rng):
        if index == 0:
            raise BadRecord("cut short")
        return self.good.read(index, rng)

    def record_name(self, index):
        return f"pets[{index}]"


def config(**method):
    return ConfigDict(
        {
            "method": {**SMALL, **method},
            "inpainter": {"depth": 8, "num_layers": 3},
            "critic": {"depth": 8, "num_stages": 2},
            "optim": dict.fromkeys(("classifier", "inpainter", "critic"), ADAM),
            "train": {"num_steps": 2, "batch_size": 4},
            "eval": {"features": {"crop_size": 20}},
            "init_from": {"inpainter": ""},
        }
    )


def recognition(settings, train, test):
    return transformations.build_experiment(
        settings,
        functools.partial(alexnet, width=0.125, fc_features=8),
        train=train,
        labelled=train,
        test=test,
    )


def test_a_frozen_inpainter_must_come_from_somewhere():
    settings = config(classes=("none", "lci"), inpainter="frozen")
    with pytest.raises(UserError, match=r"init_from.inpainter is empty.*'random'"):
        recognition(settings, source([0, 1]), source([0, 1]))
    settings.init_from.inpainter = "random"
    assert recognition(settings, source([0, 1]), source([0, 1])).init_from == {}
    settings = config(classes=("none", "warp"), inpainter="frozen")
    assert recognition(settings, source([0, 1]), source([0, 1])).init_from == {}


def test_images_without_labels_are_asked_for_none():
    plain = source([-1], names=())
    experiment = recognition(config(classes=("none", "warp")), plain, plain)
    assert sorted(experiment.evals) == ["filters", "pretext"]
    assert experiment.online_evals == {}


def test_images_without_the_array_label_are_like_images_without_labels():
    pixels = ArraySource({"image": source([0]).arrays["image"]}, name="pixels")
    experiment = recognition(config(classes=("none", "warp")), pixels, pixels)
    assert sorted(experiment.evals) == ["filters", "pretext"]
    assert experiment.online_evals == {}
    poses = ArraySource({"pose": np.zeros((12, 6), np.float32)}, name="poses")
    with pytest.raises(UserError, match="poses has no 'image'; its records hold: pose"):
        recognition(config(classes=("none", "warp")), poses, poses)


def test_filters_are_those_of_the_player_if_its_network_has_the_layer():
    pets, settings = source([-1], names=()), config()
    task = Task(None, None, {"features": lambda state, images: {}})
    trunk = alexnet(None, width=0.125)
    make = functools.partial(feature_evals.feature_evals, task, pets, pets, settings)
    params = trunk.init(jax.random.key(0), np.zeros((1, 20, 20, 3), np.float32))[0]
    state = TrainState(0, {"student": params}, {}, {})
    shown = make(trunk, player="student")["filters"](state).arrays["conv1"]
    np.testing.assert_array_equal(shown, params["conv1"]["conv"]["kernel"])
    assert make(mlp(None, features=(4,))) == {}


def test_a_damaged_record_does_not_stop_the_experiment():
    damaged = Damaged(source([0, 1]))
    experiment = recognition(config(classes=("none", "warp")), damaged, damaged)
    assert "linear_probe" in experiment.evals
    assert list(experiment.online_evals) == ["probe"]


def test_the_probe_during_training_takes_the_shots_there_are(monkeypatch):
    asked = []

    def note(bank, train, test, few_shot):
        asked.append(few_shot.shots)
        return lambda state: EvalResult({}, {})

    monkeypatch.setattr(feature_evals, "few_shot_eval", note)
    settings = config(classes=("none", "warp"))
    for labels, shots in (([0, 1], 6), ([0, 0, 1], 4)):
        recognition(settings, source(labels), source(labels))
        assert asked[-1] == shots


def test_probes_may_learn_from_a_part_of_the_images(monkeypatch):
    asked, make = [], feature_evals.linear_probe_eval

    def note(bank, train, test, fit):
        asked.append(train)
        return make(bank, train, test, fit)

    monkeypatch.setattr(feature_evals, "linear_probe_eval", note)
    settings = config(classes=("none", "warp"))
    for most, used in ((0, 12), (5, 5)):
        settings.eval.features.train_images = most
        recognition(settings, source([0, 1]), source([0, 1]))
        assert len(asked[-1]) == used
    settings.eval.features.train_images = -1
    with pytest.raises(UserError, match="train_images is -1"):
        recognition(settings, source([0, 1]), source([0, 1]))


def test_evaluations_may_not_crop_more_than_there_is():
    settings = config(classes=("none", "warp"))
    settings.eval.features.crop_size = 25
    with pytest.raises(UserError, match=r"eval.features.crop_size is 25 but .*24x24"):
        recognition(settings, source([0, 1]), source([0, 1]))


@pytest.mark.parametrize(
    ("name", "changes", "line"),
    [
        ("knn", {"endpoint": "conv9"}, r"knn\.endpoint is 'conv9'; allowed: conv1"),
        ("knn", {"ks": (1, 12)}, r"knn\.ks is 12, .* only 11 images"),
        ("retrieval", {"endpoint": ""}, r"retrieval\.endpoint is ''; allowed: conv1"),
        ("retrieval", {"num_queries": 13}, r"num_queries is 13, .* only 12 images"),
        ("retrieval", {"num_neighbors": 12}, r"num_neighbors is 12, .* only 11"),
        ("few_shot", {"shots": 13}, r"few_shot\.shots is 13, .* only 12 images"),
    ],
)
def test_settings_of_evaluations_are_checked_before_one_runs(name, changes, line):
    settings = config(classes=("none", "warp"))
    good = {"knn": {"ks": (1, 11)}, "retrieval": {"num_neighbors": 11}}
    settings.eval.update(good)
    pets = source([0, 1])
    for evaluate in recognition(settings, pets, pets).evals.values():
        if isinstance(evaluate, CheckedEval):
            evaluate.check()
    settings.eval[name] = changes
    with pytest.raises(UserError, match=line):
        recognition(settings, pets, pets).evals[name].check()


def test_a_forward_pass_of_an_evaluation_fits_into_memory(monkeypatch):
    monkeypatch.setattr(fits.memory, "available", lambda: 2**24)
    settings = config(classes=("none", "warp"))
    settings.eval.features.batch_size = 4000
    line = "4000 images of 20 pixels takes .* take a smaller eval.features.batch_size"
    with pytest.raises(UserError, match=line):
        recognition(settings, source([0, 1]), source([0, 1]))


def test_classes_in_another_order_are_refused():
    train, test = source([0, 1]), source([0, 1], names=("dog", "cat"))
    with pytest.raises(UserError, match="one label means 'cat' and 'dog'"):
        recognition(config(classes=("none", "warp")), train, test)
    fewer = source([0], names=("cat",))
    assert recognition(config(classes=("none", "warp")), train, fewer).evals


def unlabelled(labels, every=3, **options):
    """Return pets of which every third has no label."""
    pets = source(labels, **options)
    values = pets.arrays["label"].copy()
    values[::every] = -1
    images = pets.arrays["image"]
    return image_source(images, values, name="pets", class_names=pets.class_names)


def test_images_without_a_label_are_left_out_of_probes_and_counted(monkeypatch, caplog):
    asked = {}
    for name in ("linear_probe", "few_shot", "knn", "retrieval"):

        def note(bank, train, test, *args, name=name, **kwargs):
            asked[name] = [train, test]
            return lambda state: EvalResult({}, {})

        monkeypatch.setattr(feature_evals, f"{name}_eval", note)
    some, settings = unlabelled([0, 1]), config(classes=("none", "warp"))
    made = recognition(settings, some, some)
    assert len(made.train_set) == 12  # The pretext task takes all images.
    for sets in asked.values():
        for part in sets:
            assert -1 not in part.arrays["label"]
            assert len(part) == 8
    told = "pets: 4 of 12 records have no label; what needs labels leaves them out"
    assert caplog.messages == [told, told]
    with pytest.raises(UserError, match="pets has no labels, but pets has"):
        recognition(settings, source([-1]), source([0, 1]))
    caplog.clear()
    assert sorted(recognition(settings, some, source([-1])).evals) == [
        "filters",
        "pretext",
    ]
    assert caplog.messages[1].startswith("pets: 12 of 12 records have no label; ")


def test_a_class_that_training_lacks_is_refused():
    three, settings = ("cat", "dog", "eel"), config(classes=("none", "warp"))
    two = source([0, 1])
    for build in (
        lambda train, test: recognition(settings, train, test),
        lambda train, test: generalization(train, learner={}, test=test),
        lambda train, test: probes(config(), train, test),
    ):
        with pytest.raises(UserError, match="pets has classes that pets lacks: 'eel'"):
            build(two, source([0, 1, 2], names=three))
        with pytest.raises(UserError, match=r"class 1 \('dog'\): 4 in pets, none in p"):
            build(source([0, 2], names=three), source([0, 1, 2], names=three))
    several = image_source(
        two.arrays["image"], np.eye(12, 2, dtype=int), name="pets", class_names="ab"
    )
    with pytest.raises(UserError, match=r"pets has labels of the shape \(\) a record"):
        recognition(settings, source([0, 1], names="ab"), several)


def test_the_probe_during_training_counts_what_its_part_can_know(monkeypatch):
    asked = []
    make = feature_evals.few_shot_eval

    def note(bank, train, test, few_shot):
        asked.append((train, test))
        return make(bank, train, test, few_shot)

    monkeypatch.setattr(feature_evals, "few_shot_eval", note)
    settings = config(classes=("none", "warp"))
    settings.eval.online = {"num_images": 4}
    train = source([0, 0, 0, 1], count=16)  # Each fourth is taken: cats alone.
    recognition(settings, train, source([0, 1], count=4))
    assert [x.arrays["label"].tolist() for x in asked[-1]] == [[0] * 4, [0] * 2]


def test_classifiers_learn_from_the_images_with_a_label():
    some = unlabelled([0, 1], count=48)
    for made in (generalization(some), probes(config(), some, some)):
        assert len(made.train_set) == 32
        assert -1 not in made.train_set.arrays["label"]
    matched = generalization(some).train_set.arrays["label"][
        generalization(some).order(1)
    ]
    assert set(matched) <= {0, 1}
    noisy = generalization(some, noise__kind="symmetric", noise__rate=0.5).train_set
    assert (
        noisy.arrays["true_label"].tolist()
        == some.arrays["label"][some.arrays["label"] >= 0].tolist()
    )
    assert (noisy.arrays["true_label"] != noisy.arrays["label"]).sum() == 16
    for train, test in ((some, source([-1])), (source([-1]), some)):
        for build in (
            lambda train, test: generalization(train, learner={}, test=test),
            lambda train, test: probes(config(), train, test),
        ):
            with pytest.raises(UserError, match="pets has no record with a label"):
                build(train, test)


def test_labels_that_do_not_fit_the_task_are_refused():
    plain = source([-1], names=())
    with pytest.raises(UserError, match="pets has no labels"):
        classify.build_experiment(config(), alexnet, train=plain, test=plain)
    settings = ConfigDict(
        {
            "method": {"num_classes": 3, "crop_size": 20},
            "init_from": {"classifier": "random"},
        }
    )
    pets = source([0, 1])
    with pytest.raises(UserError, match="num_classes is 3, but pets has 2"):
        probe.build_experiment(settings, alexnet, train=pets, test=pets)


@pytest.mark.parametrize("run", ["random", "runs/pre-trained"])
def test_only_an_untrained_backbone_gets_its_statistics_filled(run):
    settings = ConfigDict(
        {
            "method": {"num_classes": 2, "crop_size": 20},
            "init_from": {"classifier": run},
            "train": {"num_steps": 4},
            "eval": {"test": {"crop_size": 20}},
        }
    )
    settings.method.pooling = "none"
    pets = source([0, 1])
    small = functools.partial(alexnet, **SMALL_TRUNK)
    task = probe.build_experiment(settings, small, train=pets, test=pets).task
    batch = {**pets.arrays, "id": np.arange(len(pets))}
    first = jax.jit(task.init)(jax.random.key(0), batch)
    second, _ = jax.jit(task.step)(first, batch, jax.random.key(0))
    before, after = (jax.tree.leaves(s.stats["classifier"])[0] for s in (first, second))
    assert np.array_equal(before, after) == (run != "random")


def generalization(pets, test=None, **changes):
    settings = ConfigDict(
        {
            "seed": 0,
            "method": {"crop_size": 20},
            "learner": {"name": "bilevel", "k": 4},
            "noise": {},
            "optim": {"classifier": {"kind": "sgd"}},
            "train": {"num_steps": 4, "batch_size": 8},
            "eval": {"test": {"crop_size": 20}},
            "init_from": {"classifier": ""},
        }
    )
    for path, value in changes.items():
        section, _, field = path.partition("__")
        if field:
            settings[section][field] = value
        else:
            settings[section] = value
    make = functools.partial(mlp, features=(4,))
    return classify.build_experiment(settings, make, train=pets, test=test or pets)


def test_the_learner_decides_who_is_in_a_step():
    pets = source([0, 1], count=40)
    assert generalization(pets, learner={}).order is None
    assert generalization(pets, learner__sampling="random").order is None
    rows = generalization(pets).order(3)
    assert rows.shape == (8,)
    assert len(set(pets.arrays["label"][rows].reshape(2, 4).ravel()[:4])) == 1
    with pytest.raises(UserError, match=r"batch_size is 10; learner\.k = 4"):
        generalization(pets, train__batch_size=10)
    with pytest.raises(UserError, match="batch_size is 8; pets has 6 records"):
        generalization(source([0, 1], count=6))
    with pytest.raises(UserError, match="class 1 has 2 images for 4 mini-batches"):
        generalization(source([0, 0, 0, 1], count=8))


def test_dense_layers_are_asked_at_the_size_they_were_trained_on():
    pets = source([0, 1], count=40)
    with pytest.raises(UserError, match=r"crop_size is 20 but .* is 16"):
        generalization(pets, method__crop_size=16)
    assert generalization(pets, method__crop_size=16, eval__test={"crop_size": 16})


def test_mini_batches_are_matched_by_the_labels_that_training_sees():
    pets = source([0, 1], count=40)
    made = generalization(pets, noise__kind="symmetric", noise__rate=0.5)
    given = made.train_set.arrays["label"]
    assert (given != pets.arrays["label"]).sum() == 20
    labels = given[made.order(0)].reshape(2, 4)
    assert (labels == labels[:, :1]).all()


def test_pixels_are_permuted_for_training_and_testing(monkeypatch):
    asked = []

    def permute(pets, *, seed):
        asked.append((pets.name, seed))
        return pets

    monkeypatch.setattr(corruption, "permuted_pixels", permute)
    generalization(source([0, 1], count=40), noise__permuted_pixels=True)
    assert asked == [("pets", 123)] * 2


def test_several_labels_are_measured_by_their_precision():
    images = np.zeros((24, 24, 24, 3), np.uint8)
    labels = np.random.default_rng(0).integers(0, 2, (24, 2))
    pets = image_source(images, labels, name="pets", class_names=("cat", "dog"))
    changes = {"method__labels": "attributes", "learner__sampling": "random"}
    made = generalization(pets, **changes)
    state = jax.jit(made.task.init)(jax.random.key(0), next_batch(made.train_set))
    assert set(made.evals["test"](state).metrics) == {"precision"}
    with pytest.raises(UserError, match=r"pets has labels int32 \(2,\)"):
        generalization(pets, method__labels="attributes")
    task = generalization(pets, learner__sampling="random").task
    with pytest.raises(UserError, match=r"labels of shape \(2,\) each"):
        jax.eval_shape(task.step, state, next_batch(pets), jax.random.key(0))


def next_batch(pets):
    return {**pets.take(np.arange(8)), "id": np.arange(8)}


# --- The section compute


def probes(settings, pets, test=None):
    settings.method = {"crop_size": 20, "pooling": "none"}
    settings.method.num_classes = len(pets.class_names)
    settings.init_from = {"classifier": "random"}
    settings.eval = {"test": {"crop_size": 20}}
    small = functools.partial(alexnet, **SMALL_TRUNK)
    return probe.build_experiment(settings, small, train=pets, test=test or pets)


def fine_tuning(settings, pets):
    settings.method = {"crop_size": 20}
    settings.init_from = {"classifier": ""}
    settings.eval.test = {"crop_size": 20}
    make = functools.partial(alexnet, width=1 / 16, fc_features=8)
    return classify.build_experiment(settings, make, train=pets, test=pets)


COMPUTED = {
    "recognition": lambda settings, pets: recognition(settings, pets, pets),
    "supervised": fine_tuning,
    "linear_probes": probes,
    "generalization": lambda settings, pets: generalization(
        pets, learner={}, compute=settings.compute
    ),
}


def traced_step(build, **changes):
    """Return the program of a step with some settings of ``compute``, as text."""
    pets = source([0, 1], count=24)
    settings = config(classes=("none", "lci"))
    settings.compute = changes
    task = build(settings, pets).task
    batch = {**pets.take(np.arange(8)), "id": np.arange(8, dtype=np.int32)}
    key = jax.random.key(0)
    state = jax.eval_shape(task.init, key, batch)
    return str(jax.make_jaxpr(task.step)(state, batch, key))


@pytest.mark.parametrize("name", COMPUTED)
def test_every_builder_reads_the_section_compute(name):
    build = COMPUTED[name]
    plain = traced_step(build)
    changed = traced_step(build, dtype="bfloat16", micro_batches=2, remat=True)
    assert "bf16" not in plain
    assert "bf16" in changed
    # Whatever loops there are, micro-batches are one more.
    assert changed.count("scan[") > plain.count("scan[")
    if name != "linear_probes":  # Its network is not differentiated.
        again = re.compile(r"\b(remat2|checkpoint)\[")
        assert not again.search(plain)
        assert again.search(changed)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dtype": "float16"}, r"dtype is 'float16'; allowed: float32, bfloat16"),
        ({"micro_batches": 0}, r"micro_batches is 0; it must be at least 1"),
    ],
)
def test_impossible_ways_to_compute_are_refused(change, told):
    with pytest.raises(UserError, match=told):
        ComputeConfig(**change)
