"""From LT_DET.CLASSIFICATION.TRANSFORM to the mapper of image batches."""

from __future__ import annotations

from typing import Any

from lt_det.data.images.transforms import ImageBatchMapper, auto_augment, resize, resized_crop

TRANSFORMS = ("pad_crop", "resized_crop", "none")


def build_image_mapper(cfg: Any, *, is_train: bool) -> ImageBatchMapper:
    """Return the mapper of image batches, records -> samples.

    Raises:
        ValueError: if there is no such transform or colour order.
    """
    node = cfg.LT_DET.CLASSIFICATION.TRANSFORM
    if node.NAME not in TRANSFORMS:
        raise ValueError(
            f"LT_DET.CLASSIFICATION.TRANSFORM.NAME must be one of {TRANSFORMS}, got {node.NAME!r}"
        )
    if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
        raise ValueError(
            f"INPUT.FORMAT must be RGB or BGR to classify images, got {cfg.INPUT.FORMAT}"
        )
    options: dict[str, Any] = {"size": node.SIZE, "color_order": cfg.INPUT.FORMAT}
    if not is_train or node.NAME == "none":
        each = resize(node.TEST_RESIZE) if node.TEST_RESIZE else None
        return ImageBatchMapper(each=each, **options)
    if node.NAME == "resized_crop":
        options["each"] = resized_crop(node.SIZE, color_jitter=node.COLOR_JITTER)
    return ImageBatchMapper(
        padding=node.PADDING if node.NAME == "pad_crop" else 0,
        random_crop=node.NAME == "pad_crop",
        flip=node.FLIP,
        after_flip=auto_augment(node.AUTO_AUGMENT, size=node.SIZE),
        cutout_size=node.CUTOUT,
        **options,
    )
