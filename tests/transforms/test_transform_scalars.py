"""A law of arguments: what is one number, or one pair, may not be several.

Factors ``(b,)`` without `jax.vmap` would be broadcast against an image's last axis. The
arguments are found by the annotations of every public function, parameters inside of
NamedTuples and tuples too, so that a new function cannot escape.
"""

import inspect
import types
import typing
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from jaxssl import transforms as T  # noqa: N812

SIDES = {"c": 3, "3": 3, "2": 2, "4": 4, "t": 20, "v": 2, "length": 16}
"""Lengths of axes by their letters; all others are 8."""

PIXELS = jnp.zeros((8, 8, 3))
VALUES = {
    "first": PIXELS,
    "grid": (2, 2),
    "identity": T.WarpParams(0.0),
    "image_size": 8,
    "labels": jnp.arange(6) % 3,
    "num_cameras": 3,
    "num_classes": 3,
    "num_frames": 40,
    "pairs": [(0, 1)],
    "radius": 2,
    "second": PIXELS,
    "shape": 4,
    "size": 4,
}
"""Arguments that cannot be made up from their annotations."""

UNTYPED = {
    "mixup": {"first", "second"},
    "random_mixup": {"first", "second"},
    "maybe": {"params", "identity"},
}
"""Pytrees of anything."""

FUNCTIONS = {
    name: getattr(T, name) for name in T.__all__ if inspect.isfunction(getattr(T, name))
}


def _array(annotation) -> Any:
    """Return the array type in an annotation, or None."""
    options = (
        typing.get_args(annotation)
        if isinstance(annotation, types.UnionType)
        else (annotation,)
    )
    arrays = [one for one in options if hasattr(one, "dim_str")]
    return arrays[0] if arrays else None


def _fields(annotation) -> dict[Any, Any]:
    """Return the parts of a tuple's annotation."""
    if hasattr(annotation, "_fields"):
        return dict(annotation.__annotations__)
    if typing.get_origin(annotation) is tuple:
        return dict(enumerate(typing.get_args(annotation)))
    return {}


def _paths(annotation) -> list[tuple]:
    """Return where in an argument something of fixed shape lies, that may be traced."""
    array = _array(annotation)
    if array is not None:
        fixed = all(axis.isdigit() for axis in array.dim_str.split())
        return [()] if fixed else []
    parts = _fields(annotation).items()
    return [(name, *path) for name, part in parts for path in _paths(part)]


def _made_up(annotation) -> Any:
    """Return a value of this type."""
    array = _array(annotation)
    if array is None and isinstance(annotation, types.UnionType):
        return _made_up(typing.get_args(annotation)[0])
    if array is None:
        parts = [_made_up(part) for part in _fields(annotation).values()]
        return annotation(*parts) if hasattr(annotation, "_fields") else tuple(parts)
    axes = [axis for axis in array.dim_str.split() if not axis.startswith("*")]
    shape = [SIDES.get(axis, 8) for axis in axes]
    if array.dtype is jaxtyping.Key:
        return jax.random.key(0)
    whole = {jaxtyping.Bool: False, jaxtyping.Int: 1}
    return jnp.full(shape, whole.get(array.dtype, 0.5))


def _several(value, path: tuple) -> Any:
    """Return an argument that has three values in place of the one at ``path``."""
    if not path:
        return jnp.stack([jnp.asarray(value)] * 3)
    name, *rest = path
    if isinstance(name, str):
        return value._replace(**{name: _several(getattr(value, name), tuple(rest))})
    parts = list(value)
    parts[name] = _several(parts[name], tuple(rest))
    return tuple(parts)


def _arguments(name: str) -> dict[str, Any]:
    """Return arguments that a function takes."""
    arguments = {}
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        made = _array(parameter.annotation) is not None
        if parameter.default is None and made:
            arguments[parameter.name] = _made_up(parameter.annotation)
        elif parameter.name in VALUES:
            arguments[parameter.name] = VALUES[parameter.name]
        elif parameter.default is not parameter.empty:
            arguments[parameter.name] = parameter.default
        elif parameter.name in UNTYPED.get(name, ()):
            arguments[parameter.name] = T.WarpParams(jnp.zeros((4, 4, 2)))
        else:
            arguments[parameter.name] = _made_up(parameter.annotation)
    return arguments


class Case(NamedTuple):
    """One argument, or one part of it, of a public function."""

    function: str
    argument: str
    path: tuple


CASES = [
    Case(name, parameter.name, path)
    for name, function in FUNCTIONS.items()
    for parameter in inspect.signature(function).parameters.values()
    for path in _paths(parameter.annotation)
]
NAMES = [".".join(map(str, (c.function, c.argument, *c.path))) for c in CASES]


@pytest.fixture(autouse=True)
def _as_users_call():
    """Without the shape checks that pytest adds."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def _trace(name: str, arguments: dict[str, Any]) -> None:
    """Call without computing; some functions return functions."""
    jax.eval_shape(lambda: (FUNCTIONS[name](**arguments), None)[1])


def test_all_annotations_are_seen() -> None:
    """What has none, or is said to be anything, is listed above."""
    for name, function in FUNCTIONS.items():
        parameters = inspect.signature(function).parameters.values()
        untyped = {p.name for p in parameters if p.annotation in (p.empty, Any)}
        assert untyped == UNTYPED.get(name, set())
    several = {
        "brightness.factor",
        "color_jitter.params.hue",
        "crop_coords.top_left",
        "free_warp.regularization",
        "random_resized_crop.scale.0",
        "rot90.k",
        "temporal_indices.kind",
        "transformation_views.params.base.flip",
    }
    assert several <= set(NAMES)


@pytest.mark.parametrize("name", sorted({case.function for case in CASES}))
def test_functions_take_one_of_each(name: str) -> None:
    _trace(name, _arguments(name))


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_several_values_in_place_of_one_are_refused(case: Case) -> None:
    arguments = _arguments(case.function)
    arguments[case.argument] = _several(arguments[case.argument], case.path)
    with pytest.raises(ValueError, match=r"jax\.vmap") as caught:
        _trace(case.function, arguments)
    message = str(caught.value)
    names = [case.argument, *filter(lambda part: isinstance(part, str), case.path)]
    assert names[-1] in message
    assert "(3," in message
    assert "\n" not in message
