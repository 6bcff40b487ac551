"""Weigh RetinaNet's levels by the object sizes of a data set, and print the config lines that use the weights."""

from fpn_plugins.commands.level_weights import main

if __name__ == "__main__":
    main()
