"""YOLOX-S, CSPPAFPN, 300 epochs of COCO (8 x 8 images).

mmdet's own config with our neck: same data, schedule and backbone. Expect the published result of
``yolox/yolox_s_8xb8-300e_coco.py``: box AP 40.5, published by mmdet. Detectron2 has no YOLOX, so this file has no
counterpart there.

    python tools/train.py configs/mmdet/yolox_s_csppafpn_300e.py
"""

_base_ = "mmdet::yolox/yolox_s_8xb8-300e_coco.py"
model = dict(neck=dict(type="fpn_plugins.YOLOXPAFPN"))
