"""Model zoo: measured results, published weights, and the pages generated from them."""

from .index import Zoo

__all__ = ["Zoo"]
