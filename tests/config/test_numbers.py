"""Single values that were taken once: what is said of them, and how early."""

from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from jaxssl.cli import main
from jaxssl.errors import UserError
from jaxssl.methods import classify
from jaxssl.models.alexnet import alexnet
from jaxssl.models.mlp import mlp
from jaxssl.optim.sgd import SGDConfig
from jaxssl.run import config_file, watched
from jaxssl.train import fits
from jaxssl.train.setup import set_up
from tests import small
from tests.small import SMALL

ROOT = Path(__file__).parents[2]
CIFAR = "classify_cifar10.py:inception,bilevel"
MNIST = "classify_fashion_mnist.py:mlp,bilevel"
CELEBA = "transformations_celeb_a.py"

EXAMPLES = [
    (CIFAR, "model.network=anything", "allowed: inception"),
    (CIFAR, "method.mixup=1e30", "at most 10000"),
    (CIFAR, "method.contrast=1e308", "at most 1000"),
    (CIFAR, "optim.classifier.weight_decay=nan", "finite"),
    (CIFAR, f"train.batch_size={10**8}", "16384"),
    (CIFAR, f"train.num_workers={10**23}", "at most 1024"),
    (CIFAR, f"eval.test.batch_size={10**9}", "GiB of memory"),
    (MNIST, "model.features=(None,)", "model.features[0] is None"),
    (MNIST, "network=anything", "allowed: mlp"),
    (MNIST, "model.bn_momentum=-1", "model.bn_momentum"),
    (CELEBA, "model.width=nan", "model.width is nan"),
    (CELEBA, f"inpainter.num_layers={10**23}", "at most 16"),
]


@pytest.fixture
def no_compilation(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a program was compiled")

    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)


def overridden(name, word):
    """Return the recipe of a small config with a value that may have any type."""
    clean = ["--config.noise.kind=none", "--config.noise.rate=0"] * (name == CIFAR)
    recipe = config_file.load(str(ROOT / "configs" / name), [*SMALL[name], *clean])
    config = recipe.config.copy_and_resolve_references().unlock()
    path, _, text = word.partition("=")
    section, _, key = path.rpartition(".")
    here = config[section] if section else config
    numbers = {"(None,)": (None,), "anything": "anything"}
    value = int(text) if text.isdecimal() else numbers.get(text)
    with here.ignore_type():
        here[key] = float(text) if value is None else value
    return recipe._replace(config=config.lock())


@pytest.mark.parametrize(("name", "word", "line"), EXAMPLES)
def test_values_that_were_taken_once_are_refused(
    name, word, line, no_compilation, faults
):
    recipe = overridden(name, word)
    with pytest.raises(UserError) as caught:
        set_up(recipe)
    assert line in str(caught.value)
    assert word.partition("=")[0].rpartition(".")[2] in str(caught.value)
    assert "\n" not in str(caught.value)
    faults.record("F6", injected=1, survived=1)


# --- Direct calls


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 1e308, "fast", None])
def test_direct_calls_are_checked_too(value, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UserError, match="weight_decay is"):
        SGDConfig(weight_decay=value)
    with pytest.raises(UserError, match="width is"):
        alexnet(10, width=value)
    with pytest.raises(UserError, match=r"features\[1\] is"):
        mlp(10, features=[4, value])


def test_lists_and_whole_numbers_become_what_the_field_says(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    config = classify.Config(area=[0.5, 1], contrast=1)
    assert config.area == (0.5, 1.0)
    assert isinstance(config.contrast, float)
    assert mlp(10, features=[4]).init


# --- What the run does not read


def test_what_nobody_reads_is_found():
    values = {"seed": 1, "optim": {"net": {"rate": 1}, "critic": {"rate": 2, "b1": 3}}}
    config = watched.watch(config_file.from_plain({**values, "data": {"a": 1, "b": 2}}))
    assert config.seed == 1
    assert dict(config.optim.net.items()) == {"rate": 1}
    assert config.data.a == 1
    assert config.get("learner", {}) == {}
    assert watched.find_unread(config) == ["data.b", "optim.critic"]
    assert not hasattr(config.data, "none")


def test_a_slip_in_the_name_of_a_section_is_refused():
    config = watched.watch(config_file.from_plain({"lerner": {"k": 3}}))
    assert config.get("learner", {}) == {}
    with pytest.raises(UserError, match=r"config\.lerner .*Did you mean 'learner'"):
        watched.find_unread(config)


def test_a_run_without_a_critic_says_that_it_does_not_read_its_optimizer():
    recipe = config_file.load(
        str(ROOT / "configs" / "transformations_celeb_a.py:rot_warp,paper"),
        ["--config.data.name=generated:celeb_a", "--config.train.batch_size=16"],
    )
    assert set_up(recipe).unread == ["optim.critic", "optim.inpainter"]


# --- What does not fit into memory


def test_the_products_of_a_program_are_found_in_its_loops():
    def program(x, y):
        def body(carry, _):
            return jax.jit(jnp.dot)(carry, y), None

        return jax.lax.scan(body, x @ y, None, length=3)[0]

    x, y = jnp.zeros((5, 4)), jnp.zeros((4, 4))
    found = fits.products(jax.make_jaxpr(program)(x, y).jaxpr)
    assert [one.shape for one in found] == [(5, 4), (5, 4)]


def test_what_is_larger_than_the_memory_is_one_line():
    fits.check("a batch", 100, "take less", limit=100)
    with pytest.raises(UserError, match=r"^a batch takes 4.0 GiB .* 2.0 GiB of memory"):
        fits.check("a batch", 2**32, "take less", limit=2**31)
    with pytest.raises(UserError, match="reading in 1000000 processes"):
        fits.check_workers(10**6)


@pytest.mark.parametrize(
    ("name", "word", "line"),
    [
        (
            "classify_imagenet2012.py:sgd",
            "--config.model.fc_features=1000000",
            "the state, most of it ",
        ),
        (
            "classify_cifar10.py:cifarnet,sgd",
            "--config.train.batch_size=4000",
            "a layer's result for 4000 rows",
        ),
    ],
)
def test_a_step_that_cannot_fit_is_refused_before_it_is_compiled(
    name, word, line, tmp_path, monkeypatch, no_compilation, capsys
):
    monkeypatch.setattr(fits.memory, "available", lambda: 3 * 2**28)
    words = ["--config.noise.kind=none", "--config.noise.rate=0"] * ("cifar" in name)
    words += [*small.generated(name[9:-4].split(".")[0], 8), "--config.mesh.data=1"]
    path = ROOT / "configs" / name
    words = ["train", f"--config={path}", f"--workdir={tmp_path}", *words, word]
    assert main(words) == 2
    assert line in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
