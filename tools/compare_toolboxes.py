"""Evaluate one set of weights in both toolboxes, and say where they differ."""

from fpn_plugins.commands.compare import main

if __name__ == "__main__":
    main()
