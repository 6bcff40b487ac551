"""Answer mmcv's operators with torchvision and plain PyTorch, where mmcv has no compiled extension.

mmcv's own Python files (``mmcv/ops/*.py``) stay as they are: they call functions of the extension ``mmcv._ext``, which
allocate nothing and fill tensors that they are given. The modules here define functions of the same names and
arguments, `extension` looks them up, and `installation` writes the file ``mmcv/_ext.py`` that asks it. Where a compiled
extension exists, Python imports that one.

This package is imported while ``mmcv.ops`` is being imported, so it imports neither mmcv nor mmdet.
"""
