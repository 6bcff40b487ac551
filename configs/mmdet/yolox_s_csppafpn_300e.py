"""YOLOX-S with CSPPAFPN, 300 epochs of COCO (8 x 8 images).

mmdet's own config with our neck: same data, schedule and backbone, so the published result of
``yolox/yolox_s_8xb8-300e_coco.py`` is the one to expect. Detectron2 has no YOLOX, so this file has no pair.

    python tools/train.py configs/mmdet/yolox_s_csppafpn_300e.py
"""

_base_ = "mmdet::yolox/yolox_s_8xb8-300e_coco.py"
model = dict(neck=dict(type="fpn_plugins.YOLOXPAFPN"))
