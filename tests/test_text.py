"""Text for a person: names from outside change neither the terminal nor the lines."""

import os
import sys
import unicodedata

import pytest

from jaxssl.text import printable


@pytest.mark.parametrize(
    "name",
    ["plain.png", "Häns-Straße.jpg", "猫 1.png", "Bild\u202f1\u00a0.png",
     "\N{FAMILY}\u200d\N{CAT FACE}", r"C:\new", ""],
)  # fmt: skip
def test_ordinary_names_are_kept(name):
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\njaxssl: finished", r"a\njaxssl: finished"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("a\u2066b\u2028c\r\t\x00\x7f", r"a\u2066b\u2028c\r\t\x00\x7f"),
        (os.fsdecode(b"\xff.png"), r"\udcff.png"),
        ("\ufeff\U000e0041", r"\ufeff\U000e0041"),
    ],
)
def test_what_could_mislead_is_escaped(name, shown):
    assert printable(name) == shown


def test_every_character_stays_in_its_line_and_can_be_encoded():
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")
    characters = map(chr, range(sys.maxunicode + 1))
    shown = printable(
        "".join(c for c in characters if unicodedata.category(c) in kinds)
    )
    assert len(f"a{shown}b".splitlines()) == 1
    assert shown.encode()
    assert not {*shown} & {*map(chr, [*range(32), *range(127, 160)])}
