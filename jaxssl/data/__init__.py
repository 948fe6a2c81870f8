"""Data sets with random access, and batches whose position is one integer."""

from jaxssl.data.registry import load
from jaxssl.data.source import ArraySource, Source, image_source

__all__ = ["ArraySource", "Source", "image_source", "load"]
