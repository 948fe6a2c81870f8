"""How a number stands on the page: in its unit, never in one guessed from its size."""

from jaxssl.types import SHARE, Metric

NBSP = "\N{NO-BREAK SPACE}"


def share(value: float) -> str:
    """Write a number in [0, 1] as ``61.5 %``, with a space that does not break."""
    return f"{100.0 * value:.1f}{NBSP}%"


def signed(points: float) -> str:
    """Write a difference with its sign, ``+18.7``."""
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def split(value: float, unit: str) -> tuple[str, str]:
    """Write a number in its unit.

    Args:
      value: the number.
      unit: as in `Metric`; a `SHARE` is written in percent.

    Returns:
      The number and the unit behind it: ``("61.5", "%")`` or ``("0.081", "m")``.
    """
    if unit == SHARE:
        return f"{100.0 * value:.1f}", "%"
    return (f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.4g}"), unit


def number(value: float, unit: str) -> str:
    """Write a number with its unit, as ``61.5 %`` or ``0.081 m``."""
    return NBSP.join(filter(None, split(value, unit)))


def metric(shown: Metric) -> str:
    """Write a metric, with its spread where there is one: ``31.2 ± 1.6 %``."""
    value, unit = split(shown.value, shown.unit)
    if shown.spread is not None:
        value += f" ± {split(shown.spread, shown.unit)[0]}"
    return NBSP.join(filter(None, (value, unit)))
