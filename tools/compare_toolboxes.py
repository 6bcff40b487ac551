"""Evaluate the same weights in both toolboxes and report where the detections differ."""

from fpn_plugins.commands.compare import main

if __name__ == "__main__":
    main()
