"""Background photos of the demo set: only files that lie inside installed wheels, no downloads.

Licences: see docs/background/demo_data.md. Training and validation photos are different ones.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from demo.emoji_classes import installed_package_folder

# (package, file inside it). Public domain or CC0, but for the two of scikit-learn (CC BY) and
# ihc.png ("no known copyright restrictions").
TRAIN_PHOTOS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/retina.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
VAL_PHOTOS = (
    ("skimage", "data/gravel.png"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
)

# Crops are at most this many times smaller than the photo; larger photos only cost time.
_LONGEST_SIDE = 720


def load_photos(photos: tuple[tuple[str, str], ...]) -> list[np.ndarray]:
    """Return the photos as ``(H, W, 3)`` uint8 RGB arrays, longest side at most 720 pixels.

    Args:
        photos: pairs of package and file, such as :data:`TRAIN_PHOTOS`.

    Raises:
        ImportError: if a package is not installed.
        FileNotFoundError: if a release of the package does not hold the file.
    """
    arrays = []
    for package, name in photos:
        path = installed_package_folder(package) / name
        if not path.is_file():
            raise FileNotFoundError(
                f"the installed {package} has no file {name}; the demo set was built with the "
                "releases in requirements.lock"
            )
        with Image.open(path) as file:
            picture = file.convert("RGB")
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
        arrays.append(np.asarray(picture))
    return arrays
