"""What the page of a study says in words."""

INTRODUCTION = """\
# Accuracy: {title}

Written by `tools/studies/ablations/study.py --page` from the result files; not edited by hand. Every training of the study has the same
data, order of images, augmentation, schedule and head; what differs is named in the first column. Anchors have the same
set of sizes in every variant, spread over the levels that it has. AP is COCO's, in percent, by pycocotools.
"""

MEANING = """\
± is the standard deviation over the seeds. "Δ" is the mean difference to `{baseline}`, taken seed by seed, ± its
standard error; a difference of less than about two standard errors is not one that these runs show, and with fewer than
two seeds there is no standard error at all. Of three seeds, two standard errors are an interval of 82 % (Student's t),
of many, 95 %. GMACs and parameters are the whole detector's, for one image.
"""

AGREEMENT = """\
## Do the toolboxes agree?

Differences to `{baseline}` in each, and how far apart they are, ± its standard error; "agree" is within two of those.

| head | | variant | | | | apart | |
|---|---|---|---|--:|--:|--:|---|"""

ANCHORS_INTRODUCTION = """\
## What the anchors reach

Counted on the objects of the validation images, without any training: how well the best anchor lies on an object (mean
intersection over union), what share of the objects has an anchor that overlaps by 0.5 or more, which is what makes an
anchor a positive one, and how many such anchors an object has. An object without any is given its best one.
"""
