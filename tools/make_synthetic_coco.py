"""Write the synthetic multi-scale data set in COCO format."""

import sys

from fpn_plugins.commands.synthetic import main

if __name__ == "__main__":
    sys.exit(main())
