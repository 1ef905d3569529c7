"""Detectron2's mapper of images, with the file's name in the error of an image that is none.

PIL says "image file is truncated" and not which one of a hundred thousand.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.data import DatasetMapper

from lt_det.data.annotations.naming import shortened
from lt_det.data.images.depth import unreadable
from lt_det.data.images.unusable_image import MissingImageError, UnusableImageError
from lt_det.storage.regular_file import check_regular


@contextlib.contextmanager
def naming_image(record: Mapping[str, Any]) -> Iterator[None]:
    """Turn what a reader of the record's image file raises into an error that names it.

    Raises:
        MissingImageError: if there is no image file.
        UnusableImageError: if it is no regular file, or the block cannot use it.
    """
    path, number = record.get("file_name"), record.get("image_id")
    where = f"image {shortened(number)}: {path}"
    if isinstance(path, str) and "://" not in path:
        try:
            check_regular(path)
        except ValueError as error:
            raise UnusableImageError(f"image {shortened(number)}: {error}") from None
    try:
        yield
    except FileNotFoundError as error:
        raise MissingImageError(f"{where} does not exist") from error
    except unreadable() as error:
        raise UnusableImageError(
            f"{where} cannot be used ({type(error).__name__}: {error}): save the image again, "
            "or take it out of the json; lt-det check-data finds all such images"
        ) from error


class NamedImageMapper(DatasetMapper):
    """Detectron2's ``DatasetMapper``; errors of a file name it and the image."""

    def __call__(self, dataset_dict: dict[str, Any]) -> Any:
        """Return what Detectron2's mapper returns.

        Raises:
            MissingImageError: if there is no image file; names it and the image id.
            UnusableImageError: if it is a pipe or the like, or no image, truncated or absurdly
                large, or has another size than the data set says.
        """
        with naming_image(dataset_dict):
            return super().__call__(dataset_dict)
