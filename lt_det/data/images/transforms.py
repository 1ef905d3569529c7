"""Augment batches of labelled images with torch and torchvision, and the policies of timm.

Images of one size are padded, cropped, flipped and cut out as one uint8 tensor: thousands a second
on one core, where a transform for each image takes longer than the training step. What only exists
for single images, files of any size and AutoAugment, goes through torchvision.transforms.v2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lt_det.data.images.depth import unreadable
from lt_det.data.images.timm_policy import TIMM_POLICIES, TimmPolicy
from lt_det.data.images.unusable_image import MissingImageError, UnusableImageError
from lt_det.storage.regular_file import open_regular

ColorOrder = Literal["RGB", "BGR"]
ImageTransform = Callable[[Tensor], Tensor]


class ImageBatchMapper:
    """Turns records into a list of ``{"image", "category_id", "image_id"}``.

    "image" is a ``(3, size, size)`` uint8 tensor. Draws from torch's global random state only, but
    for timm's policies, which draw from those of python and numpy.
    """

    def __init__(
        self,
        *,
        size: int,
        each: ImageTransform | None = None,
        padding: int = 0,
        random_crop: bool = False,
        flip: bool = False,
        after_flip: ImageTransform | None = None,
        cutout_size: int = 0,
        color_order: ColorOrder = "RGB",
    ) -> None:
        """Choose what happens, in this order.

        Args:
            size: side of the images that come out, in pixels.
            each: of every image, ``(3, H, W)`` uint8 -> the same of a size that all images share.
            padding: zeros on each side before the crop.
            random_crop: crop at random; else crop the centre.
            flip: mirror half of the images.
            after_flip: of every image of the batch, as ``each``.
            cutout_size: side of a black square in pixels, 0 for none, see :func:`cut_out`.
            color_order: channels of what comes out.

        Raises:
            ValueError: if ``size`` is below 1 or another number negative.
        """
        if size < 1 or padding < 0 or cutout_size < 0:
            raise ValueError(
                "size must be at least 1, padding and cutout_size at least 0, got "
                f"{size}, {padding} and {cutout_size}"
            )
        self.size, self.each, self.padding, self.flip = size, each, padding, flip
        self.random_crop, self.after_flip = random_crop, after_flip
        self.cutout_size, self.color_order = cutout_size, color_order

    def __call__(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return one dict for each record, in their order.

        Raises:
            ValueError: if images differ in size and there is no ``each``; names two of them.
        """
        images = self._stack([read_image(record) for record in records], records)
        images = crop(images, self.size, padding=self.padding, at_random=self.random_crop)
        if self.flip:
            mirrored = torch.rand(len(images)) < 0.5
            images[mirrored] = images[mirrored].flip(-1)
        if self.after_flip is not None:
            images = torch.stack([self.after_flip(image) for image in images])
        if self.cutout_size:
            images = cut_out(images, self.cutout_size)
        if self.color_order == "BGR":
            images = images.flip(1)
        return [
            {
                "image": image,
                "category_id": record["category_id"],
                "image_id": record["image_id"],
            }
            for image, record in zip(images, records)
        ]

    def _stack(self, images: list[np.ndarray], records: Sequence[Mapping[str, Any]]) -> Tensor:
        if self.each is not None:
            chw = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
            return torch.stack([self.each(image) for image in chw])
        for image, record in zip(images, records):
            if image.shape != images[0].shape:
                raise ValueError(
                    f"images {records[0]['image_id']} and {record['image_id']} have the shapes "
                    f"{images[0].shape} and {image.shape}: for images of any size set "
                    "TRANSFORM.NAME 'resized_crop' for training, and TRANSFORM.TEST_RESIZE, such "
                    "as 256, for tests"
                )
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def read_image(record: Mapping[str, Any]) -> np.ndarray:
    """Return ``(H, W, 3)`` uint8 RGB: the record's "image", or the file "file_name".

    Of 16 bits a pixel the upper eight are taken.

    Raises:
        MissingImageError: names the file and the image id.
        UnusableImageError: if the file is no image.
    """
    if "image" in record:
        return record["image"]
    from PIL import Image

    try:
        with open_regular(record["file_name"]) as file, Image.open(file) as image:
            if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
                # PIL would clip what is above 255.
                grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=-1)
            if image.mode in ("I", "F"):
                raise ValueError("it has 32 bits a pixel, of unknown range: save it with 8")
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise MissingImageError(
            f"image {record['image_id']}: there is no file {record['file_name']}"
        ) from error
    except unreadable() as error:
        raise UnusableImageError(
            f"image {record['image_id']}: {record['file_name']} is no image that can be used: "
            f"{error}"
        ) from error


def crop(images: Tensor, size: int, *, padding: int, at_random: bool) -> Tensor:
    """Return ``(B, 3, size, size)`` crops of ``(B, 3, H, W)`` images, a copy.

    Args:
        images: any dtype.
        size: side of the crops.
        padding: zeros on each side; a centre crop of images that are large enough ignores it.
        at_random: another place in each image; else the centre.

    Raises:
        ValueError: if the padded images are smaller than ``size``.
    """
    count, _, height, width = images.shape
    rows, columns = height + 2 * padding, width + 2 * padding
    if min(rows, columns) < size:
        raise ValueError(
            f"cannot crop {size} x {size} pixels (TRANSFORM.SIZE) from "
            f"images of {height} x {width} with {padding} pixels of padding"
        )
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    if not at_random:
        top, left = (rows - size) // 2, (columns - size) // 2
        return padded[..., top : top + size, left : left + size].clone()
    tops = torch.randint(0, rows - size + 1, (count, 1))
    lefts = torch.randint(0, columns - size + 1, (count, 1))
    y = (tops + torch.arange(size))[:, None, :, None]
    x = (lefts + torch.arange(size))[:, None, None, :]
    image = torch.arange(count)[:, None, None, None]
    channel = torch.arange(images.shape[1])[None, :, None, None]
    return padded[image, channel, y, x]


def cut_out(images: Tensor, size: int) -> Tensor:
    """Return images with one black square each, of which parts may lie outside.

    DeVries and Taylor, arXiv:1708.04552: the centre is uniform over the pixels, so the square is
    clipped at the border; torchvision's RandomErasing keeps it inside.

    Args:
        images: ``(B, C, H, W)``.
        size: side of the square in pixels.
    """
    count, _, height, width = images.shape
    inside = []
    for length in (height, width):
        start = torch.randint(0, length, (count, 1)) - size // 2
        place = torch.arange(length)
        inside.append((place >= start) & (place < start + size))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(square, 0)


def auto_augment(policy: str, *, size: int = 224) -> ImageTransform | None:
    """Return an augmentation of ``(3, H, W)`` uint8 RGB images by name, None for "".

    Args:
        policy: "cifar10", "imagenet" or "svhn" for AutoAugment (arXiv:1805.09501), "randaugment"
            or "trivialaugment" for those of torchvision, or a policy of timm such as
            "rand-m9-mstd0.5".
        size: side of the images, which timm's translations are in proportion to.

    Raises:
        ValueError: for another name.
        ImportError: if a policy of timm is asked for and timm is not installed.
    """
    if not policy:
        return None
    if policy.split("-")[0] in TIMM_POLICIES:
        return TimmPolicy(policy, size=size)
    from torchvision.transforms import v2

    makers: dict[str, Callable[[], ImageTransform]] = {
        "randaugment": v2.RandAugment,
        "trivialaugment": v2.TrivialAugmentWide,
        **{
            known.value: (lambda known=known: v2.AutoAugment(known))  # type: ignore[misc]
            for known in v2.AutoAugmentPolicy
        },
    }
    if policy not in makers:
        raise ValueError(
            "auto_augment must be '' or one of "
            f"{sorted(makers)} or a policy of timm ({', '.join(TIMM_POLICIES)}), got {policy!r}"
        )
    return makers[policy]()


def resized_crop(size: int, *, color_jitter: float) -> ImageTransform:
    """Return the training crop of ImageNet: any size in, ``(3, size, size)`` uint8 out.

    Args:
        size: side in pixels.
        color_jitter: brightness, contrast and saturation change by up to this factor; 0 for none.
    """
    from torchvision.transforms import v2

    steps: list[Any] = [v2.RandomResizedCrop(size, antialias=True)]
    if color_jitter:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    return v2.Compose(steps)


def resize(side: int) -> ImageTransform:
    """Return the test-time resize: the shorter side becomes ``side`` pixels, then a square."""
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(side)])
