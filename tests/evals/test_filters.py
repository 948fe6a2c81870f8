"""Kernels are found by their path, which the caller gives."""

import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.evals.filters import filters_eval


def test_the_kernel_of_a_path(tiny):
    found = filters_eval(("classifier", "kernel"), name="first")(tiny.state)
    assert found.metrics == {}
    want = np.asarray(tiny.state.params["classifier"]["kernel"])
    np.testing.assert_array_equal(found.arrays["first"], want)


def test_a_wrong_path_says_what_is_there(tiny):
    with pytest.raises(UserError, match=r"no critic/kernel .*the state holds"):
        filters_eval(("critic", "kernel"), name="first")(tiny.state)
    with pytest.raises(UserError, match=r"classifier holds kernel\."):
        filters_eval(("classifier", "conv1"), name="first")(tiny.state)
    with pytest.raises(UserError, match="kernel holds one array"):
        filters_eval(("classifier", "kernel", "w"), name="first")(tiny.state)
