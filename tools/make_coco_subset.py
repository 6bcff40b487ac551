"""Cut a COCO-format folder down to a few images, the same for training and validation."""

from fpn_plugins.commands.subset import main

if __name__ == "__main__":
    main()
