"""Data sets with random access, and batches whose position is one integer."""

from jaxssl.data.sources import ArraySource, Source, load

__all__ = ["ArraySource", "Source", "load"]
