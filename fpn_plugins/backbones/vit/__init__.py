"""Plain Vision Transformers."""
