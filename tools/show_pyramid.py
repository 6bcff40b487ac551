"""Show what every level of a detector's backbone and neck responds to, and which level each object belongs to."""

from fpn_plugins.commands.pyramid import main

if __name__ == "__main__":
    main()
