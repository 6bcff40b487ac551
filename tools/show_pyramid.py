"""Draw the activations of every level of a detector's backbone and neck, and the level that each object belongs to."""

from fpn_plugins.commands.pyramid import main

if __name__ == "__main__":
    main()
