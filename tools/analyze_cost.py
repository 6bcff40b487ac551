"""Count parameters, MACs and activations by component, without weights or data."""

from fpn_plugins.commands.cost import main

if __name__ == "__main__":
    main()
