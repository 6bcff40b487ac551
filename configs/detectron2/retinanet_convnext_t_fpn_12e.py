"""RetinaNet, ConvNeXt-T from timm, FPN P3-P7, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``retinanet_R_50_FPN_1x`` with another backbone and AdamW; no result has been published for it. Norms
follow the maps, as in ConvNeXt's detectors (arXiv:2201.03545, appendix A.3).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_convnext_t_fpn_12e.py
"""

from detectron2 import model_zoo

from .common.neck import RETINANET
from .common.timm import use_timm

_base = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py")
model, dataloader, lr_multiplier, train = _base.model, _base.dataloader, _base.lr_multiplier, _base.train
use_timm(
    model,
    RETINANET,
    name="convnext_tiny.fb_in1k",
    out_indices=[1, 2, 3],
    pretrained=True,
    drop_path_rate=0.4,
    output_norm="LN",
)
dataloader.train.mapper.image_format = "RGB"
optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.weight_decay = 0.05
train.init_checkpoint = ""  # timm fetches the backbone's weights
train.output_dir = "work_dirs/retinanet_convnext_t_fpn_12e_detectron2"
