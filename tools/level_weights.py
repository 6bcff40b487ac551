"""Weights of RetinaNet's levels from the object sizes of a data set, and the config lines that use them."""

from fpn_plugins.commands.level_weights import main

if __name__ == "__main__":
    main()
