"""Detect on images, folders of images or videos with a detector of either toolbox; draw boxes and masks."""

from fpn_plugins.commands.predict import main

if __name__ == "__main__":
    main()
