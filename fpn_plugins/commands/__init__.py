"""Define the command lines: one module per command, with its parser and `main`."""
