"""Command lines: one module per command, with its parser and its `main`."""
