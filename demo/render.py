"""Render the scenes of one split to JPEG files, in several processes."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from demo.lvis_json import scene_annotations
from demo.photos import load_photos
from demo.scenes import Scene, SceneConfig, compose_scene, scene_generator
from demo.sprites import SpriteBank

logger = logging.getLogger(__name__)

_Result = tuple[str, list[dict[str, Any]]]  # file name and annotations of a scene
_JPEG_QUALITY = 90
_MAX_REPEATS = 2
_REPEAT_PROBABILITY = 0.12  # that a class gets one more instance in an image


@dataclass(frozen=True)
class SplitJob:
    """What a worker process needs to render any scene of a split.

    Attributes:
        split: name of the split, and of the folder of its pictures.
        split_id: its number, part of every scene's seed.
        seed: seed of the data set.
        folder: folder of the data set.
        bank_file: sprites, as written by :meth:`SpriteBank.save`.
        photos: backgrounds, pairs of package and file.
        config: what scenes look like.
    """

    split: str
    split_id: int
    seed: int
    folder: Path
    bank_file: Path
    photos: tuple[tuple[str, str], ...]
    config: SceneConfig


class SceneRenderer:
    """Renders scenes of one split; holds the sprites and photos."""

    def __init__(self, job: SplitJob) -> None:
        self._job = job
        self._bank = SpriteBank.load(job.bank_file)
        self._photos = load_photos(job.photos)

    def scene(self, index: int, class_ids: Sequence[int]) -> Scene:
        """Return scene ``index``, a pure function of the job and the two arguments.

        Args:
            index: number of the scene in the split.
            class_ids: the distinct classes to show.
        """
        job = self._job
        rng = scene_generator(job.seed, split_id=job.split_id, index=index)
        objects = with_repeats(class_ids, rng=rng)
        return compose_scene(
            objects, bank=self._bank, photos=self._photos, rng=rng, config=job.config
        )

    def write(self, task: tuple[int, list[int]]) -> _Result:
        """Write the picture of one scene; return its file name and annotations.

        Args:
            task: index and classes of the scene.
        """
        index, class_ids = task
        scene = self.scene(index, class_ids)
        file_name = f"{self._job.split}/{index:06d}.jpg"
        path = self._job.folder / file_name
        Image.fromarray(scene.image).save(path, quality=_JPEG_QUALITY)
        return file_name, scene_annotations(scene)


def with_repeats(class_ids: Sequence[int], *, rng: np.random.Generator) -> list[int]:
    """Return the classes in random order, some of them two or three times.

    Args:
        class_ids: distinct classes.
        rng: source of randomness.
    """
    objects = list(class_ids)
    for class_id in class_ids:
        objects += [class_id] * int(rng.binomial(_MAX_REPEATS, _REPEAT_PROBABILITY))
    return [objects[i] for i in rng.permutation(len(objects))]


def render_split(job: SplitJob, hands: Sequence[list[int]], *, num_workers: int) -> list[_Result]:
    """Return file name and annotations of every scene, in order; the pictures are on disk.

    Args:
        job: the split.
        hands: classes of each scene.
        num_workers: processes; 1 renders in this one. The result does not depend on it.
    """
    (job.folder / job.split).mkdir(parents=True, exist_ok=True)
    tasks = list(enumerate(hands))
    if num_workers > 1:
        try:
            return _progress(_render_in_workers(job, tasks, num_workers=num_workers), job, tasks)
        except BrokenProcessPool:
            # Workers start by importing the main module, which a script on standard input or one
            # without a main guard does not allow.
            logger.warning(
                "worker processes do not start from here (no `if __name__ == '__main__':`?); "
                "rendering in one process"
            )
    return _progress(map(SceneRenderer(job).write, tasks), job, tasks)


def _progress(
    results: Iterable[_Result], job: SplitJob, tasks: Sequence[tuple[int, list[int]]]
) -> list[_Result]:
    label = f"rendering {job.split} scenes"
    return list(tqdm(results, total=len(tasks), desc=label, unit="image", disable=None))


def _render_in_workers(
    job: SplitJob, tasks: Sequence[tuple[int, list[int]]], *, num_workers: int
) -> Iterator[_Result]:
    # Fresh processes: forking one that runs PyTorch's threads can deadlock. An executor and not a
    # pool: a pool replaces workers that cannot start for ever.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        num_workers, mp_context=context, initializer=_start_worker, initargs=(job,)
    ) as executor:
        yield from executor.map(_write_in_worker, tasks, chunksize=8)


_worker_renderer: SceneRenderer | None = None


def _start_worker(job: SplitJob) -> None:
    global _worker_renderer
    _worker_renderer = SceneRenderer(job)


def _write_in_worker(task: tuple[int, list[int]]) -> _Result:
    if _worker_renderer is None:
        raise RuntimeError("the worker was started without its initializer")
    return _worker_renderer.write(task)
