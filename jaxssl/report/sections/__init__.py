"""The sections of the page in their order.

A section is a file here and a template of the same name. It is called after the
evaluation that it shows, and has ``TITLE``, ``EVALUATIONS`` (the names that it shows)
and ``make(inputs)``, which returns None where the run has nothing for it.
An evaluation without a section is shown by `generic`.
"""

from jaxssl.report.sections import (
    filters,
    knn,
    labels,
    linear_probe,
    pretext,
    retrieval,
    shortcut,
    thesis,
    weights,
)

SECTIONS = (
    labels,
    weights,
    pretext,
    linear_probe,
    knn,
    retrieval,
    filters,
    shortcut,
    thesis,
)
"""A new section stands here once."""
