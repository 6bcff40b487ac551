"""Count parameters, MACs and activations by component, without weights and data."""

from fpn_plugins.commands.cost import main

if __name__ == "__main__":
    main()
