"""Inspection of a training set and its validation sets: all findings, outlook, mended copies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_det.data.annotations.checks import check_annotations
from lt_det.data.inspection.annotations import annotation_findings
from lt_det.data.inspection.categories import category_findings, root_category, root_entry
from lt_det.data.inspection.declared import declared_findings
from lt_det.data.inspection.file_names import image_paths, place
from lt_det.data.inspection.files import JsonFile, read_json_file
from lt_det.data.inspection.findings import Finding, has_error, sorted_by_harm
from lt_det.data.inspection.image_files import ImageFacts, image_file_findings, read_images
from lt_det.data.inspection.images import entry_findings, name_findings, size_mending
from lt_det.data.inspection.masks import MaskUse, mask_findings
from lt_det.data.inspection.mend import mended_json, rows_without_size
from lt_det.data.inspection.outlook import Outlook, outlook_of
from lt_det.data.inspection.shared_images import shared_images
from lt_det.data.inspection.sources import redundant_sources, size_findings, source_findings
from lt_det.data.inspection.splits import split_findings
from lt_det.data.inspection.unusable_classes import unusable_class_findings


@dataclass
class InspectedFile:
    """One json of an inspection.

    Attributes:
        json: what was read.
        train: whether it is trained on, not only evaluated.
        image_root: folder of its images; None to leave them out.
        paths: of its images, None for those without a name; in the order of the json.
        used: places of the image files of all jsons.
        facts: path -> what the image file says of itself, of the files that are there.
        mended: a mended copy.
        changes: what mending changed -> how often.
    """

    json: JsonFile
    train: bool
    image_root: str | None = None
    paths: list[str | None] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    facts: dict[str, ImageFacts] = field(default_factory=dict)
    mended: dict[str, Any] | None = None
    changes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Inspection:
    """Result of :func:`inspect_data_sets`.

    Attributes:
        findings: the worst first.
        outlook: what a training sees; None if there is too little to say.
        files: one for each json.
        across: of the findings those between files, whose classes are compared mended.
    """

    findings: list[Finding]
    outlook: Outlook | None
    files: list[InspectedFile]
    across: list[Finding]

    @property
    def is_usable(self) -> bool:
        """Whether training would go right."""
        return not has_error(self.findings)

    def findings_after_mending(self, *, masks: MaskUse = "auto") -> list[Finding]:
        """Return what is wrong with the mended copies; image files are not read again.

        Args:
            masks: as :func:`inspect_data_sets` got it.
        """
        found = list(self.across)
        for file in self.files:
            found += [one for one in file.json.findings if not one.mendable]
            if file.mended is not None:
                copy = InspectedFile(
                    JsonFile(file.json.path, file.mended), file.train, file.image_root
                )
                copy.facts, copy.used = file.facts, file.used
                own = _inspect(copy, file.mended, root=None, quick=True, masks=masks, reread=False)
                found += own
                if not has_error(own):
                    found += _refused(file.json.path, file.mended)
        return sorted_by_harm(found)


def inspect_data_sets(
    train: Sequence[str | os.PathLike[str]],
    val: Sequence[str | os.PathLike[str]] = (),
    *,
    image_roots: Sequence[str | os.PathLike[str]] = (),
    quick: bool = False,
    masks: MaskUse = "auto",
    threshold: float = 0.001,
    limits: tuple[int, int] = (10, 100),
) -> Inspection:
    """Return all that is wrong with data sets before a training, and what it would see.

    Args:
        train: COCO- or LVIS-format jsons that are trained on.
        val: those that are evaluated.
        image_roots: folder of the images: none leaves images out, one is for all, else one for
            each of ``train`` and then each of ``val``.
        quick: read headers and ends of images only; copies are then not found.
        masks: what the training is to do with masks.
        threshold: of repeat factor sampling.
        limits: most images of a rare, and of a common class.

    Raises:
        ValueError: if there is no json, or the number of folders fits neither.
    """
    paths = [*train, *val]
    if not paths:
        raise ValueError("train and val must name at least one json, got none")
    if len(image_roots) not in (0, 1, len(paths)):
        raise ValueError(
            f"image_roots must be one folder, or one for each of the {len(paths)} jsons, got "
            f"{len(image_roots)}"
        )
    roots = list(image_roots) * (len(paths) if len(image_roots) == 1 else 1)
    files = [
        InspectedFile(read_json_file(path), index < len(train)) for index, path in enumerate(paths)
    ]
    used: set[str] = set()
    for file, image_root in zip(files, roots):
        file.image_root, file.used = os.fspath(image_root), used
        used.update(_named_files(file))
    findings = [one for file in files for one in file.json.findings]
    known = [file.json.content for file in files if file.json.content is not None]
    root = root_category(known) if known else None
    for file in files:
        if file.json.content is not None:
            own = _inspect(file, file.json.content, root=root, quick=quick, masks=masks)
            findings += own
            if not has_error(file.json.findings + own):
                findings += _refused(file.json.path, file.json.content)
    across = _across(files, findings, quick=quick)
    mended = [[f.mended for f in files if f.mended and f.train is kind] for kind in (True, False)]
    outlook = outlook_of(*mended, threshold=threshold, limits=limits) if mended[0] else None
    return Inspection(sorted_by_harm(findings + across), outlook, files, across)


def _named_files(file: InspectedFile) -> list[str]:
    """Return the places where the images of a json are, were they there."""
    images = file.json.content["images"] if file.json.content is not None else []
    names = [one.get("file_name") for one in images]
    root = file.image_root or ""
    return [place(os.path.join(root, name)) for name in names if isinstance(name, str) and name]


def _inspect(
    file: InspectedFile,
    content: Mapping[str, Any],
    *,
    root: str | None,
    quick: bool,
    masks: MaskUse,
    reread: bool = True,
) -> list[Finding]:
    """Return the findings of one file; sets what is known of its images and its mended copy."""
    path, images = file.json.path, content["images"]
    found: list[Finding] = []
    names: dict[int, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    if file.image_root is not None and not os.path.isdir(file.image_root):
        what = f"there is no folder {file.image_root!r}"
        if os.path.isfile(file.image_root):
            what = f"{file.image_root!r} is a file, no folder of images"
        found.append(Finding("error", "no-folder", path, what, "correct --images"))
    elif file.image_root is not None:
        file.paths, names = image_paths(images, file.image_root)
        there = {row: p for row, p in enumerate(file.paths) if p and os.path.isfile(p)}
        if reread:
            file.facts = dict(zip(there.values(), read_images(list(there.values()), quick=quick)))
        facts = {row: file.facts[p] for row, p in there.items() if p in file.facts}
        sizes = {
            row: facts[row].upright_size
            for row in rows_without_size(images).tolist()
            if row in facts and not facts[row].problem
        }
        found += name_findings(
            path, images, file.paths, names, image_root=file.image_root, used=file.used
        )
        found += image_file_findings(path, images, there, facts, train=file.train)
        found += size_mending(path, images, sizes)
    file.mended, file.changes = mended_json(content, root=root, file_names=names, sizes=sizes)
    if any(one.kind in ("bom", "encoding") for one in file.json.findings):
        file.changes["encoding"] = 1
    found += entry_findings(path, content, known_sizes=sizes)
    found += category_findings(path, content, root=root_entry(content, root), train=file.train)
    found += declared_findings(path, content, train=file.train)
    found += annotation_findings(
        path, content, file.mended["annotations"], uses_masks=masks != "off"
    )
    if file.train:
        found += unusable_class_findings(path, content)
    return found + mask_findings(path, content, use=masks)


def _across(
    files: Sequence[InspectedFile], findings: Sequence[Finding], *, quick: bool
) -> list[Finding]:
    """Return the findings between files; those with broken categories are compared with none."""
    broken = {
        one.file
        for one in findings
        if one.harm == "error"
        and "categor" in one.kind
        and "unknown" not in one.kind
        and not one.mendable
    }
    train, val = (
        [
            (f.json.path, f.mended)
            for f in files
            if f.mended is not None and f.train is kind and f.json.path not in broken
        ]
        for kind in (True, False)
    )
    found = split_findings(train, val)
    sources = [[f.json.path for f in files if f.train is kind] for kind in (True, False)]
    redundant = redundant_sources(sources[0], sources[1])
    found += source_findings(sources[0], sources[1], redundant)
    others = [file for number, file in enumerate(files) if number not in redundant]
    found += size_findings(
        [(f.json.path, f.train, len(f.mended["images"])) for f in others if f.mended is not None]
    )
    return found + shared_images(
        [(f.json.path, f.train, f.paths) for f in others], content=not quick
    )


def _refused(path: str, content: Mapping[str, Any]) -> list[Finding]:
    """Return what counting and training would stop at, should nothing here have found it."""
    try:
        check_annotations(content, name=path)
    except (ValueError, TypeError, KeyError) as error:
        return [Finding("error", "refused", path, str(error), "correct the json")]
    return []
