"""Every number of every config has a bound: impossible values are one line.

All settings of all shipped configs, in all their variants, get values that cannot be.
Networks, tasks and evaluations are put together as ``jaxssl train`` does, on a few
generated images; nothing is compiled and no array of a network is made.
"""

import copy
import dataclasses
import functools
import importlib
import inspect
import itertools
import pkgutil
import typing
from pathlib import Path

import jax
import jaxtyping
import pytest

import jaxssl
from jaxssl import trees
from jaxssl.builders import feature_evals
from jaxssl.cli import VERBS
from jaxssl.config import fields
from jaxssl.data import corruption, generated, registry
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.train.setup import set_up

CONFIGS = Path(__file__).parents[2] / "configs"
PATHS = sorted(CONFIGS.glob("*.py"))
HUGE = 10**23
IMPOSSIBLE = [float("nan"), float("inf"), -float("inf"), 1e308, HUGE, -HUGE, {}]
"""Values that no setting takes, whatever its type; 1e308 is no whole number either."""

DOUBTFUL = [-1, None, "", [], [float("nan")], [None], "anything", True, 10**8, 0]
"""Values that some settings take."""


def _modules():
    for info in pkgutil.walk_packages([str(Path(jaxssl.__file__).parent)], "jaxssl."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def _settings():
    """Yield each class of settings, and each function whose options are settings."""
    for module in _modules():
        for value in vars(module).values():
            if getattr(value, "__module__", None) != module.__name__:
                continue
            frozen = getattr(value, "__dataclass_params__", None)
            if frozen and frozen.frozen and hasattr(value, "__post_init__"):
                yield value
            options = module.__name__.startswith(("jaxssl.models.", "jaxssl.data."))
            if options and inspect.isfunction(value):
                returned = inspect.signature(value).return_annotation
                network = getattr(returned, "__name__", "") == "Network"
                if (network and hasattr(value, "__wrapped__")) or (
                    value.__name__ == "load" and "split" in fields.hints(value)
                ):
                    yield value


def _kinds(hint):
    """Return the plain types that a hint is made of, and its ranges."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Annotated:
        kinds, limits = _kinds(args[0])
        return kinds, [*limits, *args[1:]]
    if not args:
        return [hint], []
    parts = [_kinds(one) for one in args if one is not Ellipsis]
    return [k for kinds, _ in parts for k in kinds], [x for _, ls in parts for x in ls]


def _unbounded(settings):
    limits = {}
    if isinstance(settings, type):
        for field in dataclasses.fields(settings):
            limits[field.name] = field.metadata.get("limits")
    for name, hint in typing.get_type_hints(settings, include_extras=True).items():
        kinds, own = _kinds(hint)
        if name == "return" or not {int, float} & set(kinds):
            continue
        declared = [limit for limit in (limits.get(name), *own) if limit]
        for limit in declared or [fields.Range()]:
            if isinstance(limit, fields.Range) and (
                {limit.at_least, limit.above} == {None}
                or {limit.at_most, limit.below} == {None}
            ):
                yield name


def test_every_number_declares_its_range():
    found = list(_settings())
    names = {one.__name__ for one in found}
    assert {"TrainConfig", "Learner", "CenterCrops", "alexnet", "mlp", "load"} <= names
    assert {f"{one.__name__}.{n}" for one in found for n in _unbounded(one)} == set()


def test_every_number_of_a_flag_has_bounds():
    for name, verb in VERBS.items():
        for flag in verb.flags:
            assert flag.kind is not int or flag.bounds, f"{name} --{flag.name}"


# --- All fields of all configs


def _variants(path):
    """Return the variants of a config file, from the tables that it has."""
    module = vars(config_file.load_module(path))
    tables = [
        module.get(name)
        for name in ("NETWORKS", "ROWS", "VARIANTS", "LEARNERS", "SOURCE")
    ]
    names = [tuple(table) for table in tables if table]
    default = inspect.signature(module["get_config"]).parameters.get("variant")
    if default is None:
        return [None]
    if len(names) < default.default.count(",") + 1:
        names.append(("sgd", "ghost", "bilevel"))
    variants = [",".join(parts) for parts in itertools.product(*names)]
    assert default.default in variants, (path, variants)
    return variants


@pytest.fixture
def few_images(monkeypatch):
    """Let every data set be a few generated images, and trace no network.

    The types of calls are not checked: users have no such checks.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

    @functools.cache
    def make(name, split, size):
        return generated.load(name, split=split, num_records=512, load_size=size)

    def find(name, find=registry.find_loader):
        loader = find(name)
        known = name.removeprefix("tfds:")
        known = known if known in generated.FORMS else "cifar10"

        @functools.wraps(loader.func if hasattr(loader, "func") else loader)
        def load(*_, split, load_size=None, **__):
            return make(known, split, load_size or 256)

        return functools.partial(load, known) if name.startswith("tfds") else load

    monkeypatch.setattr(registry, "find_loader", functools.cache(find))
    monkeypatch.setattr(corruption, "_permute", lambda images, key: images)
    monkeypatch.setattr(feature_evals, "_filters", lambda *_: {})
    monkeypatch.setattr(feature_evals, "subset", functools.cache(feature_evals.subset))
    monkeypatch.setattr(
        config_file, "load_module", functools.cache(config_file.load_module)
    )

    def refuse(*_, **__):
        raise AssertionError("a program was compiled")

    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)


def _with(values, path, value):
    values = copy.deepcopy(values)
    *sections, name = path.split(".")
    here = values
    for section in sections:
        here = here[section]
    here[name] = value
    return values


def _outcome(recipe, values, path, value):
    """Return "unread", "taken", or the line that refuses a value."""
    try:
        plain = config_file.to_plain(_with(values, path, value))
        setup = set_up(recipe._replace(config=config_file.from_plain(plain)))
    except UserError as error:
        return str(error)
    unread = any(f"{path}.".startswith(f"{one}.") for one in setup.unread)
    return "unread" if unread else "taken"


def _load(path, variant):
    spec = f"{path}:{variant}" if variant else str(path)
    random = ["--config.init_from.classifier=random"] * path.stem.startswith("probe")
    return config_file.load(spec, random)


def _is_broken(path, value, outcome):
    """Return whether a value that cannot be was taken, or refused badly."""
    if outcome == "taken":
        return any(value is one for one in IMPOSSIBLE)
    return outcome != "unread" and (
        "\n" in outcome or path.rpartition(".")[2] not in outcome
    )


def _fields(path):
    """Yield variant, recipe, values and name of each setting of a config file.

    A setting that an earlier variant has with the same value is left out.
    """
    seen = set()
    for variant in _variants(path):
        recipe = _load(path, variant)
        values = recipe.config.to_dict()
        for name, default in trees.flatten(values).items():
            if (name, repr(default)) not in seen and default != {}:
                seen.add((name, repr(default)))
                yield variant, recipe, values, name


def test_impossible_values_of_all_settings_are_one_line(few_images, faults):
    """Try each setting of each builder with some of the values."""
    values_in_turn = itertools.cycle(IMPOSSIBLE + DOUBTFUL)
    seen, tried, broken = set(), 0, {}
    for path in PATHS:
        for variant, recipe, values, name in _fields(path):
            if (key := (path.stem.split("_")[0], name)) in seen:
                continue
            seen.add(key)
            for value in itertools.islice(values_in_turn, 3):
                outcome = _outcome(recipe, values, name, value)
                tried += 1
                if _is_broken(name, value, outcome):
                    broken[path.stem, variant, name, repr(value)] = outcome
    assert broken == {}
    faults.record("F6", injected=tried, survived=tried)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_all_impossible_values_of_all_settings_are_one_line(path, few_images, faults):
    """Try each setting of each variant of each config with all of the values."""
    tried, broken = 0, {}
    for variant, recipe, values, name in _fields(path):
        for value in IMPOSSIBLE + DOUBTFUL:
            outcome = _outcome(recipe, values, name, value)
            tried += 1
            if _is_broken(name, value, outcome):
                broken[variant, name, repr(value)] = outcome
    assert broken == {}
    faults.record("F6", injected=tried, survived=tried)
