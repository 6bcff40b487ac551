"""Backbones that are timm's networks."""
