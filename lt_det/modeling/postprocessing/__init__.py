"""Post-processing of detectors: Detectron2's detections, faster with many classes.

The contract. The detections are Detectron2's, to the last bit, wherever its own result does not
depend on the order of exactly equal scores: it gives equal scores no order, and what comes out
differs between its versions and devices. Here the order is fixed: among equal scores the lower
region comes first, then the lower class. It decides which of two boxes suppresses the other, which
detections are cut off, and how the rest is sorted. For a dense detector the regions are the
anchors, level after level.

How. Only better candidates of the same class suppress a candidate, so the best few of all scores
are looked at, then more until enough have survived. That is decided by
:mod:`~lt_det.modeling.postprocessing.nms`. A GPU is waited for three times an image at most, unless
the first few were not enough, or an overlap equals the threshold up to rounding.
"""
