"""Images of jsons that are one: in training and evaluation, in two trainings, or twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.inspection.equal_files import equal_files, resolved
from lt_det.data.inspection.findings import Finding, Harm

#: What a leak means.
LEAK = "the evaluation then measures what was learned by heart: split them anew"
_BACKGROUND = "the objects of each are background in the other: make it one image"
# Kind -> number of the json -> path of an image -> path of the other.
_Rows = defaultdict[str, defaultdict[int, dict[str, str]]]


def shared_images(
    sets: Sequence[tuple[str, bool, Sequence[str | None]]], *, content: bool
) -> list[Finding]:
    """Return findings about images that are in two jsons, or under two names in one.

    Paths are compared by the place that they lead to, and with ``content`` files by their bytes.

    Args:
        sets: path of each json, whether it is trained on, and paths of its images.
        content: read files of equal length.
    """
    places: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, (_, _, paths) in enumerate(sets):
        known = [path for path in paths if path]
        for path, place in zip(known, resolved(known)):
            places[place].append((number, path))
    rows: _Rows = defaultdict(lambda: defaultdict(dict))
    is_train = [train for _, train, _ in sets]
    for where in places.values():
        _add(rows, where, is_train, both="image-in-both", twice="image-twice")
        trained = [one for one in where if is_train[one[0]]]
        for number, path in trained[1:]:
            if number != trained[0][0]:
                rows["image-in-two-sets"][number].setdefault(path, trained[0][1])
    for group in equal_files(list(places)) if content else ():
        # One path for each place and json.
        where = [one for place in group for one in {n: (n, p) for n, p in places[place]}.values()]
        _add(rows, where, is_train, both="copy-in-both", twice="image-copied")
    for number, same in rows["image-in-both"].items():
        for path in same:
            rows["copy-in-both"][number].pop(path, None)
    cases: list[tuple[Harm, str, str, str]] = [
        ("warning", "image-in-both", "the image is trained on too", LEAK),
        ("warning", "copy-in-both", "a file with the same bytes is trained on", LEAK),
        ("warning", "image-in-two-sets", "another training json has the image too", _BACKGROUND),
        ("warning", "image-twice", "the same file as another image, under another name",
         _BACKGROUND),
        ("note", "image-copied", "a file with the same bytes as another image",
         "it counts twice, and what is drawn in one only is background in the other"),
    ]  # fmt: skip
    return [
        Finding(
            harm, kind, sets[number][0], what, advice, len(found), len(sets[number][2]), "images",
            tuple(path if path == other else f"{path} = {other}"
                  for path, other in list(found.items())[:NUM_NAMED]),
        )
        for harm, kind, what, advice in cases
        for number, found in sorted(rows[kind].items())
        if found
    ]  # fmt: skip


def _add(
    rows: _Rows,
    where: Sequence[tuple[int, str]],
    is_train: Sequence[bool],
    *,
    both: str,
    twice: str,
) -> None:
    """Note of places of one image which are evaluated and trained on, and which are in one json."""
    trained = next((path for number, path in where if is_train[number]), None)
    first: dict[int, str] = {}
    for number, path in where:
        if trained is not None and not is_train[number]:
            rows[both][number].setdefault(path, trained)
        other = first.setdefault(number, path)
        if other != path:
            rows[twice][number].setdefault(path, other)
