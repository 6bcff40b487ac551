"""Networks from timm as backbones."""
