"""Compute AP, PQ and the time per image of detectors: config and checkpoint, or exported files."""

from fpn_plugins.commands.evaluate import main

if __name__ == "__main__":
    main()
