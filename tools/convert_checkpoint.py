"""Convert a detector's weights to the other toolbox, or between a toolbox's own modules and this package's."""

from fpn_plugins.commands.convert import main

if __name__ == "__main__":
    main()
