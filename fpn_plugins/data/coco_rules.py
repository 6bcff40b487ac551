"""Kinds of faults of COCO annotation files, with remedy and consequence."""

from .findings import Rule

IMAGE = Rule("image without valid id, file_name, width and height", "correct the entry")
IMAGE_TWICE = Rule("image id used twice", "give each image its own id", "one of the images is lost")
MIXED_IDS = Rule("list of image ids that mixes texts and numbers", "write all ids as numbers", "sorting them fails")
FLOAT_SIZE = Rule(
    "image whose size is written as a float, in a set for evaluating masks",
    "write width and height as integers",
    "Detectron2's evaluation stops",
    toolbox="detectron2",
)
CATEGORY_ID_TWICE = Rule("category id used twice", "give each category its own id", "one of the two is lost")
CATEGORY_NAME_TWICE = Rule("category name used twice", "merge or rename the categories", "labels are mixed up")
CATEGORY_BRACES = Rule(
    "category name with two opening braces, which mmengine reads as a reference in the configs that it writes",
    "rename the category",
    "parts of the name are replaced or executed when such a config is read again",
    toolbox="mmdet",
)
UNORDERED = Rule(
    "list of categories not in ascending order of id, so toolboxes would disagree",
    "sort 'categories' by id",
    "MMDetection numbers classes by position, Detectron2 by id, so checkpoints cannot be converted or compared",
)
UNORDERED_ALONE = Rule(UNORDERED.fault, UNORDERED.remedy, UNORDERED.otherwise, error=False)
UNKNOWN_CLASS = Rule(
    "category of the file that the model does not have",
    "name all categories among the model's classes, or remove them from the file",
    "their objects are dropped or get wrong labels",
)
ABSENT_CLASS = Rule(
    "list of classes that are not in the file",
    "correct the data set's metainfo",
    "MMDetection drops them and numbers the other classes without them",
)
CLASS_ORDER = Rule(
    "order of categories differs from the model's, so labels would be swapped", "list the classes in the file's order"
)
ANNOTATION_ID = Rule("annotation without id", "number the annotations from 1", "loading fails with KeyError 'id'")
ANNOTATION_TWICE = Rule("annotation id used twice", "number the annotations from 1", "both toolboxes stop")
TEXT_ID = Rule(
    "annotation id that is a text and no number, in a set for evaluation",
    "number the annotations from 1",
    "evaluation stops: could not convert string to float",
)
UNKNOWN_IMAGE = Rule("annotation of an unknown image", "add the image or remove the annotation", "the object is lost")
UNKNOWN_CATEGORY = Rule(
    "annotation of an unknown category", "add the category or remove the annotation", "Detectron2 stops"
)
BOX = Rule("annotation whose bbox is not [x, y, width, height]", "correct the box, in pixels")
AREA = Rule(
    "annotation without area (px)",
    "add the area of the mask, or width x height of the box",
    "MMDetection's training and both evaluations stop with KeyError 'area'",
)
AREA_UNREAD = Rule(AREA.fault, AREA.remedy, AREA.otherwise, error=False)
MASK = Rule("annotation with malformed segmentation", "correct or remove it", "decoding may crash the process")
MASK_UNREAD = Rule(MASK.fault, MASK.remedy, "a training or an evaluation of masks fails", error=False)
SHORT_POLYGONS = Rule(
    "annotation with polygons of less than 3 points beside others",
    "remove them",
    "both toolboxes skip them",
    error=False,
)
CROWD = Rule(
    "annotation whose iscrowd is neither 0 nor 1",
    "write 0 for an object, 1 for a region of many",
    "it is not trained on",
)
NO_CROWD = Rule(
    "annotation without iscrowd, in a set for evaluation",
    'add "iscrowd": 0; a file that is only trained on does not need it (check_coco --use train)',
    "evaluation stops with KeyError 'iscrowd'",
)
NO_INFO = Rule(
    "file without 'info', in a set for evaluation with pycocotools 2.0.9 or 2.0.10",
    'add "info": {}, or install pycocotools>=2.0.11',
    "evaluation stops with KeyError 'info'",
)
IGNORE = Rule(
    "annotation with a true 'ignore'",
    "remove the annotation, or mark it as iscrowd",
    "Detectron2 stops, MMDetection drops the object",
    toolbox="detectron2",
)
NO_MASK = Rule(
    "annotation without segmentation, in a set whose masks are read",
    "add masks, or use a config without masks (with_mask=False, a model without mask head, metric='bbox')",
    "training stops with KeyError 'mask' or 'gt_masks'",
)
UNREAD_MASKS = Rule(
    "data set whose masks are not read, for a model that learns masks",
    "read them: LoadAnnotations with with_mask=True (the base coco_folder_masks.py has it), or use_instance_mask=True",
    "training stops without 'gt_masks' or 'masks'",
)
SOME_MASKS = Rule(
    "annotation without segmentation in an image where others have one, in a set whose masks are read",
    "read no masks, as the model does not learn any: mapper.use_instance_mask=False",
    "Detectron2 stops with KeyError 'segmentation'",
)
RLE_AS_POLYGON = Rule(
    "RLE mask, in a set whose masks are read as polygons",
    'read bitmasks: INPUT.MASK_FORMAT=bitmask, mapper.instance_mask_format="bitmask", or poly2mask=True',
    "Detectron2 stops, MMDetection ignores the object",
)
NOTHING = Rule(
    "file without an object to train on",
    "annotate objects that are no crowd regions, within their images and at least 1 px wide and high",
    "no image is left to train on",
)
NOTHING_TO_FIND = Rule(
    "file without an object to evaluate", "annotate objects that are no crowd regions", "every AP is -1", error=False
)
OTHER_CATEGORIES = Rule(
    "list of categories that differs from another file's of the same model",
    "give all files of a model the same 'categories', in the same order",
    "labels are swapped between training and evaluation",
)
