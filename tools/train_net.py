"""Train and evaluate with Detectron2: YAML files like its `train_net.py`, .py files like `lazyconfig_train_net.py`."""

from fpn_plugins.commands.train_d2 import main

if __name__ == "__main__":
    main()
