"""Drawing takes most of the time of a page: only tests that ask for it draw."""

import pytest
from markupsafe import Markup

from jaxssl.report import figures


@pytest.fixture
def drawn():
    """Ask for charts as a reader sees them."""


@pytest.fixture(autouse=True)
def _leave_out_drawings(request, monkeypatch):
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(figures, "svg", lambda *_, **__: Markup("<svg></svg>"))
