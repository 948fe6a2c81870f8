"""Parts of data sets: which records they hold, and when these are read."""

import numpy as np
import pytest

from jaxssl.data.source import ArraySource, read_record
from jaxssl.data.subset import Part, subset
from jaxssl.errors import UserError


class Counting(ArraySource):
    """Notes which records are read."""

    def __init__(self, count):
        images = np.arange(count, dtype=np.uint8)[:, None, None, None]
        images = np.broadcast_to(images, (count, 2, 2, 3)).copy()
        labels = np.arange(count) % 2
        arrays = {"image": images, "label": labels.astype(np.int32)}
        super().__init__(arrays, name="numbers", class_names=("even", "odd"))
        self.reads = []

    def read(self, index, rng):
        self.reads.append(index)
        return super().read(index, rng)


def pixel(source, index):
    return int(read_record(source, index)["image"][0, 0, 0])


@pytest.mark.parametrize(
    ("count", "num", "expected"), [(10, 4, [0, 2, 5, 7]), (3, 9, [0, 1, 2])]
)
def test_a_part_holds_evenly_spaced_records_and_reads_them_late(count, num, expected):
    source = Counting(count)
    part = Part(source, num)
    assert source.reads == []
    assert [pixel(part, i) for i in range(len(part))] == expected
    assert source.reads == expected
    assert [part.record_name(i) for i in range(len(part))] == [
        source.record_name(i) for i in expected
    ]
    loaded = subset(source, num)
    assert loaded.arrays["image"][:, 0, 0, 0].tolist() == expected
    for name in ("name", "class_names", "spec", "fingerprint"):
        assert getattr(loaded, name) == getattr(part, name)
    assert part.fingerprint != source.fingerprint


def test_an_empty_part_is_refused():
    with pytest.raises(UserError, match="a subset of 0 records"):
        subset(Counting(3), 0)
