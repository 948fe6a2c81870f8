"""Data sets with random access, and batches whose position is one integer."""

from jaxssl.data.registry import load
from jaxssl.data.source import ArraySource, Source

__all__ = ["ArraySource", "Source", "load"]
