"""Export a detector of either toolbox to ONNX, OpenVINO, ``torch.export`` or TorchScript."""

from fpn_plugins.commands.export import main

if __name__ == "__main__":
    main()
