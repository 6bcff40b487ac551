"""What the page of a study says in words."""

INTRODUCTION = """\
# Accuracy: {title}

Written by `tools/study.py --page` from the result files; not edited by hand. Every training of the study has the same
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

PUBLISHED = """\
## Published figures of the same comparison

Measured by others on COCO, and cited: the FPN paper (Lin et al., CVPR 2017, arXiv:1612.03144), ResNet-50, trained on
trainval35k, evaluated on minival. None of them was measured here.

Table 1 of the paper, **average recall of RPN's proposals** (not AP; 1000 proposals per image):

| features | AR | AR, small | AR, medium | AR, large |
|---|--:|--:|--:|--:|
| (a) one map, C4 | 48.3 | 32.0 | 58.7 | 62.2 |
| (b) one map, C5 | 44.9 | 25.3 | 55.5 | 64.2 |
| (c) FPN | 56.3 | 44.9 | 63.4 | 66.2 |
| (d) laterals without the top-down path | 49.5 | 30.5 | 59.9 | 68.0 |
| (e) top-down path without laterals | 46.1 | 26.5 | 57.4 | 64.7 |
| (f) finest level only | 51.3 | 35.1 | 59.7 | 67.6 |

Table 2 of the paper, **AP of Fast R-CNN** on the fixed proposals of row (c) above:

| features | AP50 | AP | AP, small | AP, medium | AP, large |
|---|--:|--:|--:|--:|--:|
| (a) one map, C4, with C5's stage as the head | 54.7 | 31.9 | 15.7 | 36.5 | 45.5 |
| (b) one map, C5 | 52.9 | 28.8 | 11.9 | 32.4 | 43.4 |
| (c) FPN | 56.9 | 33.9 | 17.8 | 37.7 | 45.8 |
| (d) laterals without the top-down path | 44.9 | 24.9 | 10.9 | 24.4 | 38.5 |
| (e) top-down path without laterals | 54.0 | 31.3 | 13.3 | 35.2 | 45.3 |
| (f) finest level only | 56.3 | 33.4 | 17.3 | 37.3 | 45.6 |

Table 3 of the paper, **AP of Faster R-CNN**, proposals and detector on the same features:

| features | AP50 | AP | AP, small | AP, medium | AP, large |
|---|--:|--:|--:|--:|--:|
| (a) one map, C4, with C5's stage as the head | 53.1 | 31.6 | 13.2 | 35.6 | 47.1 |
| (b) one map, C5 | 51.7 | 28.0 | 9.6 | 31.9 | 43.1 |
| (c) FPN | 56.9 | 33.9 | 17.8 | 37.7 | 45.8 |

So FPN gains 8.0 points of AR over (a) in proposals (12.9 on small objects), and 2.3 points of AP over (a) in Faster
R-CNN (4.6 on small, 2.1 on medium, -1.3 on large objects). The paper's detectors are two-stage; the study's RetinaNet
is not, and (a) has another head than (c) there.
"""

CARRIES_OVER = """\
## What carries over, and what does not

- The study's pictures are small and few, its backbone is light, and its training is short. The size of a difference
  says nothing about COCO; its sign may, where it is many standard errors from zero and shows in both toolboxes.
- Object sizes are log-uniform here, and backgrounds are plain; COCO's small objects are harder, so that what helps them
  can help more there.
- Anchors have the same set of sizes in every variant, but not the same density, because they are as dense as the maps
  that carry them. The smallest objects have 8 pixels, so that the anchors of P3 begin at 12, 1.5 times its stride;
  RetinaNet's own begin at 4 times. The table of what the anchors reach says what that does: an object of any size has
  about five positive anchors in a pyramid of strides 8-128, a large one over a hundred on C4. `fpn_p2p6` is the test of
  it, the same FPN and the same anchors one level finer: it is better at every size than FPN P3-P7, so that density is
  much of the reason. On large objects, where C4 has seven times its anchors, it still is behind C4.
- Mask R-CNN shows the same by size as RetinaNet: FPN P3-P7 is far ahead of C4 on small objects and far behind on the
  others, which comes to about the same AP of boxes and a higher one of masks. The paper's detectors begin at P2, which
  this one does not.
- The image pyramid takes 2.6 times the multiply-adds of FPN as a detector. Of these, 0.30 GMACs are the head's, the same in
  both; backbone and neck alone take 0.50 and 1.76 GMACs (`fpn_plugins.analysis.pyramid_cost`), 3.5 times as many. Its AP is
  higher at every size, with the same strides, anchors and head; what makes it so was not isolated.
- FPN P3-P5 has the anchors of P3-P7 on fewer, finer maps, and so more positive ones for objects of every size. It gains
  on medium and large objects, and loses on small ones, which the number of anchors does not explain.
- One learning rate serves all variants. It was chosen for FPN, so that a variant that needs another one looks worse
  than it is.
- Variants with parts that start from scratch (the ViTs, the blocks of the hybrid) compete with a pretrained network;
  their rows show that they train, not what they can do.
- Parts of the neck that learn more, such as upsampling by CARAFE, begin from scratch and have a short time to learn.
- The two toolboxes sample, draw augmentation and average losses in their own ways: compare within a toolbox.
"""

ANCHORS_INTRODUCTION = """\
## What the anchors reach

Counted on the objects of the validation images, without any training: how well the best anchor lies on an object (mean
intersection over union), what share of the objects has an anchor that overlaps by 0.5 or more, which is what makes an
anchor a positive one, and how many such anchors an object has. An object without any is given its best one.
"""
