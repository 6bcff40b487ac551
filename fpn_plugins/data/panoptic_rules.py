"""Kinds of faults of panoptic annotation files, with remedy and consequence."""

from .findings import Rule

IMAGE = Rule("image without integer id, file_name, width and height", "correct the entry")
SEGMENTS = Rule("annotation without image_id, file_name and a list segments_info", "correct the entry")
NO_SEGMENTS = Rule("image without annotation", "add its annotation, or remove the image", "evaluation stops")
SEGMENT = Rule("segment without an id from 1 to 16777215 of its own", "correct its id", "its pixels are lost")
CATEGORY = Rule("segment of an unknown category", "add the category or remove the segment", "training stops")
BOX = Rule("segment without bbox and area", "add both, in pixels", "MMDetection stops with KeyError", toolbox="mmdet")
CROWD = Rule("segment without iscrowd 0 or 1", 'add "iscrowd": 0', "evaluation stops with KeyError 'iscrowd'")
STUFF_FIRST = Rule(
    "list of categories in which stuff comes before a thing",
    "list all things before all stuff",
    "MMDetection numbers classes by position and takes the first for things, so labels are silently wrong",
    toolbox="mmdet",
)
CLASSES = Rule("list of classes other than the file's", "correct the data set's metainfo", "labels are silently wrong")
INSTANCES = Rule(
    "instance file with other things than the panoptic file", "give both the same things", "labels are swapped"
)
FILE_NAME = Rule(
    "label image that is not named like its image",
    "name it like the image with .png instead of .jpg",
    "MMDetection looks for another file",
)
MASK_MODE = Rule("label image that is not RGB with 8 bits", "save it as an RGB PNG", "ids are read wrong")
MASK_SIZE = Rule("label image of another size than its image", "make both the same size", "training stops")
MASK_DAMAGED = Rule("label image that is damaged or cut off", "copy or make it again", "training stops")
PIXELS = Rule(
    "label image with other ids than its segments", "correct segments_info", "evaluation stops or misses them"
)
STUFF_MODE = Rule(
    "stuff label image that is not gray with 8 bits",
    "save labels themselves as gray values (Detectron2's prepare_panoptic_fpn.py does)",
    "Detectron2 reads the brightness of palette colors as labels",
    toolbox="detectron2",
)
NOTHING = Rule("file without a thing to train on", "annotate things that are no crowd regions", "no image is left")
