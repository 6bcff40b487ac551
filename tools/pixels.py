"""Compute statistics of the pixels of images of any number of channels, and print lines for configs."""

from fpn_plugins.commands.pixels import main

if __name__ == "__main__":
    main()
