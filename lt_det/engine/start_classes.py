"""Rows of classifiers, boxes and masks that come from weights of other classes, by class name."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lt_det.data.annotations.datasets import check_registered, class_names_of
from lt_det.data.annotations.json_file import read_categories
from lt_det.storage.regular_file import check_regular, open_regular

logger = logging.getLogger(__name__)

_NUM_NAMED = 5
# Parameters with rows by class: of Detectron2's box predictors (also in a cascade), its mask
# heads, dense heads (for each anchor the classes) and of image classifiers.
_BOX = re.compile(r"(^|\.)box_predictor(\.\d+)?\.(?P<layer>cls_score|bbox_pred)\.(weight|bias)$")
_MASK = re.compile(r"(^|\.)mask_head\.predictor\.(weight|bias)$")
_OTHER = re.compile(r"(^|\.)cls_score\.(weight|bias)$")


@dataclass(frozen=True)
class StartClasses:
    """Classes of a model and of the weights that it starts from.

    Attributes:
        model: K names.
        weights: names in the order of the rows of weights that do not say their own; () unknown.
        all_needed: whether the weights must know all classes of the model, as for a second stage.
    """

    model: tuple[str, ...]
    weights: tuple[str, ...] = ()
    all_needed: bool = False

    def match(
        self, checkpoint: dict[str, Any], model: nn.Module, path: str, *, resume: bool
    ) -> None:
        """Give rows of classes in a checkpoint to those of the same name in the model, in place.

        Args:
            checkpoint: as it was read.
            model: that it goes to.
            path: of the checkpoint, for messages.
            resume: whether a training goes on from it; its classes must be the same then.

        Raises:
            ValueError: names the classes that differ.
        """
        said = names_in_checkpoint(checkpoint)
        names = said or (() if resume else self.weights)
        if not names or names == self.model:
            return
        if resume:
            raise ValueError(
                f"the checkpoint to resume from, {path!r}, is of other classes: "
                f"{other_classes(self.model, names)}. Take the same data as before, or start "
                "anew in another OUTPUT_DIR with MODEL.WEIGHTS set to it"
            )
        if self.all_needed and None in rows_in_file(self.model, names):
            raise ValueError(
                f"MODEL.WEIGHTS {path!r} is not a stage-1 checkpoint of these classes: "
                f"{other_classes(self.model, names)}. Train stage 1 on them first"
            )
        take_rows(
            checkpoint["model"], model, model_names=self.model, file_names=names, weights=path
        )


def build_start_classes(cfg: Any, class_names: Sequence[str]) -> StartClasses:
    """Return what LT_DET.START_CLASSES says of MODEL.WEIGHTS.

    Args:
        cfg: config.
        class_names: of the model.

    Raises:
        ValueError: if it is neither a registered data set nor a file of names.
    """
    return StartClasses(tuple(class_names), _names_of(cfg), bool(cfg.LT_DET.DECOUPLED))


def _names_of(cfg: Any) -> tuple[str, ...]:
    value = cfg.LT_DET.START_CLASSES
    if not value:
        return ()
    if os.path.isfile(os.path.expanduser(value)):
        return _names_in_file(os.path.expanduser(value))
    check_regular(os.path.expanduser(value))
    try:
        check_registered(value)
        return tuple(class_names_of(value))
    except (KeyError, FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"LT_DET.START_CLASSES must be a registered data set whose classes are known, a json "
            f"with categories or a text file with a name on each line, got {value!r}: "
            f"{error.args[0]}"
        ) from error


def _names_in_file(path: str) -> tuple[str, ...]:
    if path.endswith(".json"):
        with open_regular(path, "r", encoding="utf-8-sig") as file:
            try:
                content = json.load(file)
            except ValueError as error:
                raise ValueError(f"LT_DET.START_CLASSES {path!r} is no json: {error}") from error
        if isinstance(content, list) and all(isinstance(name, str) for name in content):
            return tuple(content)
        categories = read_categories(path, name="LT_DET.START_CLASSES")
        return tuple(c["name"] for c in sorted(categories, key=lambda c: c["id"]))
    with open_regular(path, "r", encoding="utf-8-sig") as file:
        return tuple(line.strip() for line in file if line.strip())


def same_name(name: str) -> str:
    """Return what is equal for spellings of one name: capitals, blanks, ``-`` and ``_`` apart."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def rows_in_file(model_names: Sequence[str], file_names: Sequence[str]) -> list[int | None]:
    """Return for each class of the model its place among the classes of the file, or None.

    Args:
        model_names: K names.
        file_names: names in the order of the rows of the file.
    """
    exact = {name: row for row, name in enumerate(file_names)}
    alike: dict[str, int | None] = {}
    for row, name in enumerate(file_names):
        key = same_name(name)
        alike[key] = None if key in alike else row  # two of them: neither is meant
    return [exact[n] if n in exact else alike.get(same_name(n)) for n in model_names]


def take_rows(
    state: dict[str, Any],
    model: nn.Module,
    *,
    model_names: Sequence[str],
    file_names: Sequence[str],
    weights: str = "MODEL.WEIGHTS",
) -> list[str]:
    """Give the rows of a file's classes to the model's classes of the same name, in place.

    The background's row stays the last. Classes that the file does not know keep the rows that
    the model has, its random ones. Class-agnostic layers are left alone.

    Args:
        state: of the file; entries with rows by class are replaced.
        model: that they go to.
        model_names: its K classes.
        file_names: those of the file.
        weights: the file, for messages.

    Returns:
        Names of the classes of the model that the file does not know.

    Raises:
        ValueError: if a layer of the file has not as many rows as ``file_names`` say.
    """
    places = rows_in_file(model_names, file_names)
    own = model.state_dict()
    for key in [k for k in state if k in own]:
        value = torch.as_tensor(state[key])
        if value.ndim and _is_by_class(key, value, own[key]):
            state[key] = _taken(key, value, own[key], places, len(file_names), weights=weights)
    new = [name for name, place in zip(model_names, places) if place is None]
    kept = [name for name, place in zip(model_names, places) if place is not None]
    logger.info(
        "Classes of %s are matched by name: %d of %d keep their rows%s; %d start anew%s",
        *(weights, len(kept), len(places), _few(kept), len(new), _few(new)),
    )
    return new


def other_classes(model_names: Sequence[str], file_names: Sequence[str]) -> str:
    """Return in words how the classes of a checkpoint differ from those of the model."""
    lacking = [name for name in model_names if name not in set(file_names)]
    more = [name for name in file_names if name not in set(model_names)]
    parts = [f"it has {len(file_names)} classes, the training set {len(model_names)}"]
    if lacking:
        parts.append(f"it lacks {len(lacking)}{_few(lacking)}")
    if more:
        parts.append(f"{len(more)} of its own are not in the training set{_few(more)}")
    if not lacking and not more:
        parts.append("they are the same in another order")
    return ", ".join(parts)


def _is_by_class(key: str, value: Tensor, own: Tensor) -> bool:
    if value.shape[1:] != own.shape[1:]:
        return False  # another network; Detectron2 says so
    box = _BOX.search(key)
    if box is not None and box["layer"] == "bbox_pred":
        return value.shape[0] > 4 and own.shape[0] > 4  # four are class-agnostic
    if _MASK.search(key) is not None:
        return value.shape[0] > 1 and own.shape[0] > 1
    return box is not None or _OTHER.search(key) is not None


def _taken(
    key: str,
    value: Tensor,
    own: Tensor,
    places: Sequence[int | None],
    num_file: int,
    *,
    weights: str,
) -> Tensor:
    """Return ``own`` with the rows of the classes that the file knows; see :func:`take_rows`."""
    box = _BOX.search(key)
    by_class = (box is not None and box["layer"] == "bbox_pred") or _MASK.search(key) is not None
    num_model = len(places)
    file_rows, file_back = _blocks(value.shape[0], num_file, background=not by_class)
    own_rows, own_back = _blocks(own.shape[0], num_model, background=not by_class)
    if not file_rows:
        raise ValueError(
            f"LT_DET.START_CLASSES says that {weights!r} has {num_file} classes, but its {key} has "
            f"{value.shape[0]} rows: name the classes of these weights, or leave the key empty"
        )
    if file_rows != own_rows:
        return value  # of another kind of head, which Detectron2 reports
    order = (num_file, file_rows) if by_class else (file_rows, num_file)
    own_order = (num_model, own_rows) if by_class else (own_rows, num_model)
    axis = 0 if by_class else 1
    source = value[: num_file * file_rows].unflatten(0, order).movedim(axis, 0)
    target = own.detach().clone().to(source)
    view = target[: num_model * own_rows].unflatten(0, own_order).movedim(axis, 0)
    for index, place in enumerate(places):
        if place is not None:
            view[index] = source[place]
    if file_back and own_back:
        target[-1] = value[-1]
    elif file_back and _BOX.search(key) is not None:
        # The checkpointer drops the row and sets the biases anew, as for equal classes.
        target = torch.cat([target, value[-1:].to(target)])
    return target


def _blocks(rows: int, classes: int, *, background: bool) -> tuple[int, bool]:
    """Return rows a class (or anchors), 0 if it does not fit, and whether there is a background."""
    if background and rows == classes + 1:
        return 1, True
    return (rows // classes, False) if rows % classes == 0 else (0, False)


def _few(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _NUM_NAMED else ""
    return f" ({', '.join(names[:_NUM_NAMED])}{more})"


def names_in_checkpoint(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names that a checkpoint of this package holds; () in others."""
    stats = checkpoint.get("class_stats")
    names = stats.get("class_names", ()) if isinstance(stats, Mapping) else ()
    return tuple(names)
