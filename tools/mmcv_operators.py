"""Use mmcv's operators without a compiler: install, remove or describe the file that brings in ours."""

from fpn_plugins.commands.mmcv_operators import main

if __name__ == "__main__":
    main()
