"""Model zoo: measured results, published weights, and the pages made from them."""

from .index import Zoo

__all__ = ["Zoo"]
