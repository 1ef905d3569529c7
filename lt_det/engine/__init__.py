"""Training loops: trainer, stages, checkpoints, launch."""

import lt_det.detectron2_required  # noqa: F401
