"""Linear classifiers of attributes."""

import numpy as np
import pytest

from jaxssl.data.source import image_source
from jaxssl.errors import UserError
from jaxssl.evals.attributes import attribute_probes, attributes_eval
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.feature_bank import FeatureBank
from jaxssl.evals.linear_probe import LinearProbeConfig
from tests.evals.clusters import clusters

LONG = LinearProbeConfig(learning_rate=0.05, num_epochs=2000, batch_size=120)


def test_attribute_probes_measure_each_attribute():
    train, test = clusters(120, seed=0), clusters(200, seed=1)

    def attributes(features):
        columns = [features.labels == k for k in range(3)]
        return features._replace(labels=np.stack(columns, axis=1).astype(np.int32))

    got = attribute_probes(attributes(train), attributes(test), config=LONG)
    assert got["conv5"].shape == got["noise"].shape == (3,)
    assert got["conv5"].min() > 0.7 > 0.55 > got["noise"].max()


def test_it_asks_for_several_labels():
    one = clusters(20, seed=0)
    with pytest.raises(UserError, match=r"attributes needs several.*one class"):
        attribute_probes(one, one, config=LinearProbeConfig())


def test_the_evaluation_names_the_attributes(tiny, train_set, test_set):
    def several(source):
        labels = np.stack([source.arrays["label"] == k for k in range(3)], axis=1)
        return image_source(
            source.arrays["image"], labels, class_names=source.class_names
        )

    bank = FeatureBank(tiny.predict_fns["features"], CenterCrops(8), batch_size=10)
    config = LinearProbeConfig(batch_size=16)
    run = attributes_eval(bank, several(train_set), several(test_set), config)
    found = run(tiny.state)
    assert found.arrays["conv1"].shape == (3,)
    mean = found.arrays["conv1"].mean()
    assert found.metrics["conv1"].value == pytest.approx(mean)
    assert mean > 0.9
    assert found.arrays["names"].tolist() == ["red", "green", "blue"]
