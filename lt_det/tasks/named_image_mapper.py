"""Detectron2's mapper of images, with the file's name in the error of an image that is none.

PIL says "image file is truncated" and not which one of a hundred thousand.
"""

from __future__ import annotations

from typing import Any

from detectron2.data import DatasetMapper

from lt_det.data.annotations.naming import shortened
from lt_det.data.images.depth import unreadable
from lt_det.storage.regular_file import check_regular


class NamedImageMapper(DatasetMapper):
    """Detectron2's ``DatasetMapper``; errors of a file name it and the image."""

    def __call__(self, dataset_dict: dict[str, Any]) -> Any:
        """Return what Detectron2's mapper returns.

        Raises:
            FileNotFoundError: if there is no image file; names it and the image id.
            ValueError: if it is a pipe or the like, or no image, truncated or absurdly large, or
                has another size than the data set says.
        """
        path, number = dataset_dict.get("file_name"), dataset_dict.get("image_id")
        where = f"image {shortened(number)}: {path}"
        if isinstance(path, str) and "://" not in path:
            try:
                check_regular(path)
            except ValueError as error:
                raise ValueError(f"image {shortened(number)}: {error}") from None
        try:
            return super().__call__(dataset_dict)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{where} does not exist") from error
        except unreadable() as error:
            raise ValueError(
                f"{where} cannot be used ({type(error).__name__}: {error}): save the image again, "
                "or take it out of the json; lt-det check-data finds all such images"
            ) from error
