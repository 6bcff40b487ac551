"""The model zoo: measured results, published weights, the pages made of them."""

from .index import Zoo

__all__ = ["Zoo"]
