"""Build the mapper of image batches from LT_DET.CLASSIFICATION.TRANSFORM."""

from __future__ import annotations

from typing import Any

from lt_det.config_errors import naming_keys
from lt_det.data.images.transforms import ImageBatchMapper, auto_augment, resize, resized_crop

TRANSFORMS = ("pad_crop", "resized_crop", "none")

#: TRANSFORM.NAME -> augmentations that it does not have
_WITHOUT = {
    "none": ("COLOR_JITTER", "AUTO_AUGMENT", "CUTOUT"),
    "pad_crop": ("COLOR_JITTER",),
}


def check_transform(transform: Any) -> None:
    """Raise for augmentations that a transform does not have.

    Args:
        transform: node LT_DET.CLASSIFICATION.TRANSFORM.

    Raises:
        ValueError: names them.
    """
    ignored = [key for key in _WITHOUT.get(transform.NAME, ()) if transform[key]]
    if ignored:
        raise ValueError(
            f"LT_DET.CLASSIFICATION.TRANSFORM.NAME {transform.NAME!r} has no "
            f"{' and no '.join(ignored)}: leave them at their defaults, or set another NAME"
        )


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
    with naming_keys(auto_augment="LT_DET.CLASSIFICATION.TRANSFORM.AUTO_AUGMENT"):
        after_flip = auto_augment(node.AUTO_AUGMENT, size=node.SIZE)
    return ImageBatchMapper(
        padding=node.PADDING if node.NAME == "pad_crop" else 0,
        random_crop=node.NAME == "pad_crop",
        flip=node.FLIP,
        after_flip=after_flip,
        cutout_size=node.CUTOUT,
        **options,
    )
