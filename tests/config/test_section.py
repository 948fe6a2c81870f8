"""From a config to settings: types, names, defaults, and what is recorded of them."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from jaxssl.config import fields, section
from jaxssl.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    size: int = fields.number(at_least=1)
    rate: float = fields.number(0.1, above=0, below=1)
    parts: tuple[float, ...] = fields.number((0.25, 0.5), at_least=0, at_most=1)
    mode: str = fields.choice("near", ("near", "far"))
    pairs: tuple[tuple[str, int], ...] = ()
    limit: int | None = fields.number(None, at_least=0)
    flag: bool = False
    plain: float = 0.0

    __post_init__ = fields.validate


def read(**values):
    return section.read(Settings, {"a": {"b": {"size": 3, **values}}}, "a.b")


def test_a_section_becomes_its_dataclass():
    found = read(rate=0.5, parts=[0, 1], pairs=[["x", 2]], limit=4)
    assert found == Settings(
        size=3, rate=0.5, parts=(0.0, 1.0), pairs=(("x", 2),), limit=4
    )
    assert [type(part) for part in found.parts] == [float, float]
    config = ConfigDict({"a": {"b": {"size": 3}}}).lock()
    assert section.read(Settings, config, "a.b") == Settings(size=3)


@pytest.mark.parametrize("config", [{}, {"a": {}}, {"a": {"b": {}}}])
def test_what_is_missing_takes_its_default(config):
    with pytest.raises(UserError, match=r"a\.b\.size is missing; it has no default\."):
        section.read(Settings, config, "a.b")
    own = dataclasses.make_dataclass("Own", [("width", int, 8)], frozen=True)
    assert section.read(own, config, "a.b").width == 8


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sise": 3}, r"a\.b\.sise is not a setting; allowed: size,.*Did you mean 'si"),
        ({"size": 2.5}, r"a\.b\.size is 2\.5 \(float\); it must be int"),
        ({"size": True}, r"a\.b\.size is True \(bool\); it must be int"),
        ({"size": 0}, r"a\.b\.size is 0; it must be at least 1\."),
        ({"rate": 0}, r"a\.b\.rate is 0\.0; it must be above 0 and below 1\."),
        ({"rate": 1.0}, r"a\.b\.rate is 1\.0; it must be above 0 and below 1\."),
        ({"rate": float("nan")}, r"a\.b\.rate is nan; it must be finite"),
        ({"plain": float("inf")}, r"a\.b\.plain is inf; it must be finite"),
        ({"parts": (0.0, 1.5)}, r"a\.b\.parts\[1\] is 1\.5; .* at most 1\."),
        ({"parts": 0.5}, r"a\.b\.parts is 0\.5 \(float\); it must be tuple"),
        ({"pairs": [["x"]]}, r"a\.b\.pairs\[0\] is .*2 values"),
        ({"mode": "fra"}, r"a\.b\.mode is 'fra'; allowed: near, far\..*'far'"),
        ({"limit": -1}, r"a\.b\.limit is -1; it must be at least 0"),
    ],
)
def test_impossible_values_are_one_line(values, words):
    with pytest.raises(UserError, match=words) as caught:
        read(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0.0, 1.0, float("nan"), float("inf")])
def test_settings_that_are_made_in_python_are_checked_too(rate):
    with pytest.raises(UserError, match="rate is"):
        Settings(size=1, rate=rate)
    with pytest.raises(UserError, match="rate is"):
        section.defaults(Settings, size=1, rate=rate)


def test_a_value_is_no_section():
    with pytest.raises(UserError, match=r"config\.a is 3; it must be a section"):
        section.read(Settings, {"a": 3}, "a.b")


def test_a_renamed_setting_is_named(monkeypatch):
    monkeypatch.setitem(section.RENAMED, "a.b.extent", "a.b.size")
    with pytest.raises(UserError, match=r"extent is not a setting.* now a\.b\.size\."):
        read(extent=3)


def function(num, *, width=8):
    return num, width


def test_options_of_a_function_are_bound_by_name():
    config = {"model": {"width": 2}}
    assert section.bind(function, config, "model")(5) == (5, 2)
    assert section.bind(function, {}, "model")(num=5) == (5, 8)
    with pytest.raises(UserError, match=r"model\.widht is not .*'width'"):
        section.bind(function, {"model": {"widht": 2}}, "model")
    with pytest.raises(UserError, match=r"model\.num is not a setting; allowed: width"):
        section.bind(function, {"model": {"num": 2}}, "model")


def test_defaults_are_recorded_where_it_is_asked_for():
    with section.recorded() as outer:
        with section.recorded() as found:
            read(rate=0.5)
            section.bind(function, {"model": {"width": 2}}, "model")
        section.bind(function, {}, "other")
    read()
    assert outer == {"other.width": 8}
    assert found == {
        "a.b.rate": 0.1,
        "a.b.parts": (0.25, 0.5),
        "a.b.mode": "near",
        "a.b.pairs": (),
        "a.b.limit": None,
        "a.b.flag": False,
        "a.b.plain": 0.0,
        "model.width": 8,
    }
