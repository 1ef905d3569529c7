"""Choose and draw images: the best and worst of rare classes, and some of every class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lt_det.report.page import Section
from lt_det.report.run_page.found_objects import Finds, TestSet, overlaps
from lt_det.report.run_page.material import Material
from lt_det.report.run_page.picture_store import DrawnBox, PictureStore

#: Bytes of all images of a page.
BUDGET = 8 * 2**20
_OF_RARE, _OF_CLASS, _PANELS = 6, 3, 3
# Pixels of the longer side; with many classes smaller, so that each gets an image.
_LARGE, _SMALL, _TINY, _MANY = 360, 240, 160, 200
# From this score on detections are drawn, and the best one of a rare object from any score.
_LEAST, _IOU, _NEAR = 0.3, 0.5, 0.2


@dataclass(frozen=True)
class Judged:
    """An object of a rare class: how it was found.

    Attributes:
        image_id: of the json.
        one: annotation.
        right: best score of an overlapping detection of its class, 0 without.
        other: the same of another class.
    """

    image_id: int
    one: Mapping[str, Any]
    right: float
    other: float

    @property
    def quality(self) -> float:
        """From -1, surely taken for another class, over 0, missed, to 1, surely found."""
        return self.right if self.right >= self.other else -self.other


def rare_scenes(
    material: Material, truth: TestSet, finds: Mapping[str, Finds], store: PictureStore
) -> Section:
    """Return the part with the best and worst images of rare classes.

    Args:
        material: of the page.
        truth: test set.
        finds: method -> its detections; the last one is judged.
        store: of the images.
    """
    judged_by = list(finds)[-1]
    rare = {c.name for c in material.classes if c.group == "r"}
    word = "rare classes"
    if not rare:
        ordered = sorted(material.classes, key=lambda c: (c.objects is None, c.objects or 0))
        names = [c.name for c in ordered if c.objects]
        rare = set(names[: max(len(names) // 3, 1)])
        word = "the classes with the fewest objects"
    objects = judge(truth, finds[judged_by], rare)
    best = _pick([o for o in objects if o.right > 0], worst=False)
    worst = _pick([o for o in objects if o.quality <= 0], worst=True)
    blocks = []
    for title, chosen in (("Found best", best), ("Found worst", worst)):
        rows = [
            _row(o, truth, finds, store)
            for o in chosen
            if store.add(truth.paths[o.image_id], longest=_LARGE)
        ]
        if rows:
            blocks.append(_markup(f"<h3>{title}</h3><div class='rows'>{''.join(rows)}</div>"))
    missing = (
        []
        if blocks
        else ["No image of them can be shown: no objects, or no files there (--images DIR)."]
    )
    return Section(
        f"Images of {word}",
        [
            f"Best and worst by the scores of {judged_by}, one image a class. White: what is "
            "there, the object in question bold. Green: found. Red: of another class, or nothing "
            "is there. Dashed: a score below 0.3. Point at a box for its "
            "name.",
        ],
        anchor="images",
        short="Images",
        missing=missing,
        blocks=blocks,
    )


def judge(truth: TestSet, finds: Finds, classes: set[str]) -> list[Judged]:
    """Return how each object of some classes was found."""
    wanted = {key for key, name in truth.names.items() if name in classes}
    judged = []
    for image_id, objects in truth.objects.items():
        some = [one for one in objects if one["category_id"] in wanted]
        if not some:
            continue
        found = finds.of_image(image_id)
        matrix = overlaps([one["bbox"] for one in some], [box for *_, box in found]) >= _IOU
        scores = np.array([score for _, score, _ in found])
        categories = np.array([key for key, *_ in found])
        for one, hits in zip(some, matrix):
            same = categories == one["category_id"]
            right, other = (
                float(scores[hits & kind].max(initial=0.0)) if len(scores) else 0.0
                for kind in (same, ~same)
            )
            judged.append(Judged(image_id, one, right, other))
    return judged


def _pick(objects: Sequence[Judged], *, worst: bool) -> list[Judged]:
    """Return the best or worst objects, one a class and image."""
    chosen: list[Judged] = []
    for one in sorted(objects, key=lambda o: o.quality if worst else o.other - 2 * o.right):
        if all(
            one.one["category_id"] != c.one["category_id"] and one.image_id != c.image_id
            for c in chosen
        ):
            chosen.append(one)
        if len(chosen) == _OF_RARE:
            break
    return chosen


def _row(judged: Judged, truth: TestSet, finds: Mapping[str, Finds], store: PictureStore) -> str:
    from lt_det.report.svg import escaped

    path, objects = truth.paths[judged.image_id], truth.objects[judged.image_id]
    name = truth.names[judged.one["category_id"]]
    there = [
        DrawnBox(
            o["bbox"],
            truth.names.get(o["category_id"], "?"),
            "truth main" if o is judged.one else "truth",
            o is judged.one,
        )
        for o in objects
    ]
    about = f"ground truth: {', '.join(b.label for b in there)}"
    panels = [store.scene(path, there, about=about, caption="ground truth")]
    shown = list(finds)[:1] + list(finds)[1:][-(_PANELS - 1) :]
    for method in shown:
        boxes = _drawn(judged, truth, finds[method])
        words = ", ".join(b.label for b in boxes) or "nothing"
        panels.append(store.scene(path, boxes, about=f"{method}: {words}", caption=method))
    fates = [f"found with score {judged.right:.2f}"] if judged.right else []
    if judged.other:
        fates.append(f"taken for another class with score {judged.other:.2f}")
    fate = ", ".join(fates) or "missed"
    return (
        f"<figure><figcaption><b>{escaped(name)}</b>: {fate}</figcaption>"
        f"<div class='panels'>{''.join(panels)}</div></figure>"
    )


def _drawn(judged: Judged, truth: TestSet, finds: Finds) -> list[DrawnBox]:
    objects = truth.objects[judged.image_id]
    found = finds.of_image(judged.image_id)
    strong = [f for f in found if f[1] >= _LEAST][:20]
    shares = overlaps([judged.one["bbox"]], [box for *_, box in found])[0]
    best = next((f for f, share in zip(found, shares) if share >= _IOU), None)
    strong += [best] if best is not None and best not in strong else []
    # Words only where they tell of the object in question: more would cover the image.
    near = [bool(overlaps([judged.one["bbox"]], [box])[0, 0] >= _NEAR) for *_, box in strong]
    boxes = [_box(f, objects, truth) for f in strong]
    return [replace(one, shows_label=is_near) for one, is_near in zip(boxes, near)]


def _box(
    found: tuple[int, float, list[float]], objects: Sequence[Mapping[str, Any]], truth: TestSet
) -> DrawnBox:
    key, score, box = found
    same = [one["bbox"] for one in objects if one["category_id"] == key]
    right = bool((overlaps([box], same) >= _IOU).any())
    kind = ("right" if right else "wrong") + (" weak" if score < _LEAST else "")
    return DrawnBox(box, f"{truth.names.get(key, '?')} {score:.2f}", kind)


def class_scenes(
    material: Material, truth: TestSet, finds: Mapping[str, Finds], store: PictureStore
) -> tuple[Section, set[int]]:
    """Return the part with images of each class, and the places of the classes that have some.

    The rarest class comes first, and each class gets its first image before one gets a second,
    as far as the budget of the store reaches.
    """
    judged_by = list(finds)[-1]
    images: dict[str, list[int]] = defaultdict(list)
    for image_id, objects in truth.objects.items():
        for key in {one["category_id"] for one in objects}:
            images[truth.names.get(key, "?")].append(image_id)
    order = sorted(
        range(len(material.classes)), key=lambda k: (material.classes[k].train_images or 0, k)
    )
    chosen: dict[int, list[int]] = {k: [] for k in order}
    longest = _TINY if len(order) > _MANY else _SMALL
    for turn in range(_OF_CLASS):
        for k in order:
            of_class = images.get(material.classes[k].name, [])
            # An image that is there already costs nothing.
            free = [i for i in of_class if i not in chosen[k]]
            free.sort(key=lambda i: not store.has(truth.paths[i]))
            if len(chosen[k]) == turn and free and store.add(truth.paths[free[0]], longest=longest):
                chosen[k].append(free[0])
    keys = {name: key for key, name in truth.names.items()}
    blocks = []
    for k, one in enumerate(material.classes):
        if not chosen[k]:
            continue
        scenes = [_of_class(keys[one.name], i, truth, finds[judged_by], store) for i in chosen[k]]
        blocks.append(_details(k, one.name, material, len(images[one.name]), scenes))
    left = len(material.classes) - len(blocks)
    missing = (
        [f"{left:,} classes have no image here: no test object, no file, or no room on the page."]
        if left
        else []
    )
    section = Section(
        "Images of every class",
        [
            f"By falling training images, with the figures of {judged_by} and the number of test "
            "images. White: what is there, of this class only. Green and red: what was found of it."
        ],
        anchor="class-images",
        short="Images of classes",
        missing=missing,
        blocks=[_markup(f"<div class='list'>{''.join(blocks)}</div>")] if blocks else [],
    )
    return section, {k for k in chosen if chosen[k]}


def _of_class(key: int, image_id: int, truth: TestSet, finds: Finds, store: PictureStore) -> str:
    objects = truth.objects[image_id]
    there = [
        DrawnBox(o["bbox"], truth.names[key], "truth") for o in objects if o["category_id"] == key
    ]
    found = [
        _box(f, objects, truth) for f in finds.of_image(image_id, least=_LEAST, category_id=key)[:8]
    ]
    words = ", ".join(b.label for b in found) or "not found"
    boxes = [*(DrawnBox(b.box, "" if found else b.label, b.kind) for b in there), *found]
    return store.scene(truth.paths[image_id], boxes, about=f"{truth.names[key]}: {words}")


def _details(k: int, name: str, material: Material, images: int, scenes: Sequence[str]) -> Any:
    from lt_det.report.svg import escaped

    values = [v for v in material.figures[:, k][-1:] if np.isfinite(v)]
    figure = f"{material.what} {values[0]:.1f}, " if values else ""
    about = f"{figure}{images} image{'s' * (images != 1)}"
    return _markup(
        f"<details id='class-{k}'><summary><b>{escaped(name)}</b> <span class='quiet'>"
        f"{escaped(about)}</span></summary><div class='scenes'>{''.join(scenes)}</div></details>"
    )


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - its parts are escaped
