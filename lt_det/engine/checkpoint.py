"""Write checkpoints whole or not at all; read them without running their code."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer

from lt_det.data.array_unpickler import BROKEN_FILE, ArrayUnpickler
from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine.start_classes import StartClasses
from lt_det.engine.weights_fit import check_resumed_shapes
from lt_det.modeling.roi.box_predictor import LongTailOutputLayers
from lt_det.storage.atomic_write import atomic_file, remove_partial_files
from lt_det.storage.regular_file import check_regular, open_regular
from lt_det.storage.tensor_file import load_open_tensors, why_not_loaded

logger = logging.getLogger(__name__)


class LongTailCheckpointer(DetectionCheckpointer):
    """:class:`DetectionCheckpointer` that writes atomically and loads tensors only.

    Attributes:
        incompatible: missing and unexpected keys and wrong shapes of the last load, None before.
        keys_of_file: names of the weights that the last load found.
        classes: if set, rows of other classes are matched by name.
    """

    incompatible: Any = None
    keys_of_file: tuple[str, ...] = ()
    classes: StartClasses | None = None
    _has_query = False
    _parts_of_file: frozenset[str] = frozenset()
    _path, _resumes = "", False

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name.pth``: first beside it, then in its place, so that no crash halves it."""
        if not self.save_dir or not self.save_to_disk:
            return
        state = {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        self._write(f"{name}.pth", {**state, **kwargs})
        self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, name: str, *, iteration: int) -> None:
        """Write ``name.pth`` to evaluate or to start from; it is none to resume from.

        Args:
            name: of the file without its ending.
            iteration: the last one of the training, from 0.
        """
        if self.save_dir and self.save_to_disk:
            kept = {k: v.state_dict() for k, v in self.checkpointables.items() if k != "trainer"}
            self._write(f"{name}.pth", {**kept, "iteration": iteration})

    def _write(self, basename: str, extra: dict[str, Any]) -> None:
        data: dict[str, Any] = {"model": self.model.state_dict(), **extra}
        path = os.path.join(self.save_dir, basename)
        logger.info("Saving checkpoint to %s", path)
        if "://" not in path:
            # Killed writers'; the main process is the only one that writes checkpoints here.
            remove_partial_files(os.path.join(self.save_dir, "*.pth"))
        with self._atomic_file(path, "wb") as file:
            torch.save(data, file)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note the name of the last checkpoint, atomically."""
        path = os.path.join(self.save_dir, "last_checkpoint")
        with self._atomic_file(path, "w") as file:
            file.write(last_filename_basename)

    @contextlib.contextmanager
    def _atomic_file(self, path: str, mode: Any) -> Iterator[IO[Any]]:
        if "://" not in path:
            with atomic_file(path, mode, sync=True) as file:
                yield file
            return
        with self.path_manager.open(f"{path}.partial", mode) as file:
            yield file
        self.path_manager.mv(f"{path}.partial", path)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; return what was in it beside the model.

        Raises:
            FileNotFoundError: if a local file is missing.
            ConnectionError: if an address cannot be read; says what to do without a network.
            ValueError: if it holds anything but weights, or is broken.
        """
        if path and "://" not in path and not os.path.isfile(path.split("?")[0]):
            check_regular(path.split("?")[0])
            raise FileNotFoundError(
                f"checkpoint {path!r} (MODEL.WEIGHTS, or the last one of OUTPUT_DIR) does not exist"
            )
        self._has_query = path.endswith("?matching_heuristics=True") if path else False
        # Detectron2 names what to restore beside the model where it does not resume: nothing.
        names = args[0] if args else kwargs.get("checkpointables")
        self._path, self._resumes = path, names is None
        try:
            return super().load(path, *args, **kwargs)
        except OSError as error:
            if "://" not in (path or ""):
                raise
            raise ConnectionError(
                f"checkpoint {path!r} (MODEL.WEIGHTS) could not be downloaded ({error}): is there "
                "a network? Without one, download the file elsewhere and set MODEL.WEIGHTS to its "
                "path, or to '' to start from random weights" + _address_hint(path)
            ) from error
        finally:
            # Detectron2 keeps it after an error and then refuses to load again.
            self._parsed_url_during_load = None

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the last checkpoint of the folder, else ``path``.

        Raises:
            ValueError: if a training is to be resumed from a checkpoint that holds weights only;
                else as :meth:`load`.
        """
        rest = super().resume_or_load(path, resume=resume)
        resumed = resume and self.has_checkpoint() and "trainer" in self.checkpointables
        if resumed and "trainer" not in self._parts_of_file:
            raise ValueError(
                f"the last checkpoint of OUTPUT_DIR {self.save_dir!r} holds weights only, no state "
                "of a training (iteration, optimizer), and cannot be resumed: start without "
                "--resume in another OUTPUT_DIR, with MODEL.WEIGHTS set to it"
            )
        return rest

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            data = self._read(filename, lambda file: ArrayUnpickler(file, encoding="latin1").load())
            if "model" in data and "__author__" in data:
                return self._checked(filename, data)
            blobs = data.get("blobs", data)
            model = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
            heuristics = {"__author__": "Caffe2", "matching_heuristics": True}
            return self._checked(filename, {"model": model, **heuristics})
        data = self._read(filename, load_open_tensors)
        self._parts_of_file = frozenset(data)
        data = self._checked(filename, _with_model(data))
        if self._has_query:
            data["matching_heuristics"] = True
        return data

    @staticmethod
    def _read(filename: str, reader: Any) -> dict[str, Any]:
        try:
            with open_regular(filename) as file:
                data = reader(file)
        except BROKEN_FILE as error:
            reason = f"{type(error).__name__}: {why_not_loaded(error)}"
            raise ValueError(
                f"checkpoint {filename!r} was not loaded ({reason}): it is broken, or it "
                "holds more than weights. Only tensors, arrays and plain containers are read, "
                "because anything else could run code; if you trust the file, save its weights "
                "again as a plain dict of tensors"
            ) from error
        if not isinstance(data, dict):
            raise ValueError(f"checkpoint {filename!r} holds a {type(data).__name__}, no weights")
        return data

    @staticmethod
    def _checked(filename: str, data: dict[str, Any]) -> dict[str, Any]:
        """Return ``data`` if its model is a dict of tensors or arrays."""
        model = data["model"]
        if not isinstance(model, dict):
            kind = type(model).__name__
            raise ValueError(f"checkpoint {filename!r} holds a {kind} as its model, no weights")
        for key, value in model.items():
            if not isinstance(key, str):
                raise ValueError(
                    f"checkpoint {filename!r} names a weight {key!r}: expected texts as names"
                )
            what = _unlike_weights(value) if isinstance(value, torch.Tensor) else None
            if what is not None:
                raise ValueError(
                    f"checkpoint {filename!r} has {what} in {key!r}: save its weights again as "
                    "plain tensors of real numbers"
                )
            if not isinstance(value, (torch.Tensor, np.ndarray)):
                raise ValueError(
                    f"checkpoint {filename!r} holds a {type(value).__name__} as {key!r}, no "
                    "tensor: expected a dict of weights, or one under the key 'model'"
                )
        return data

    def _load_model(self, checkpoint: Any) -> Any:
        self.keys_of_file = tuple(checkpoint["model"])
        if self.classes is not None:
            self.classes.match(checkpoint, self.model, self._path, resume=self._resumes)
        if self._resumes and "trainer" in self.checkpointables:
            check_resumed_shapes(self._path, checkpoint["model"], self.model)
        if not checkpoint.get("matching_heuristics", False):
            self._give_rows_of_softmax(checkpoint["model"])
        self.incompatible = super()._load_model(checkpoint)
        return self.incompatible

    def _give_rows_of_softmax(self, state: dict[str, Any]) -> None:
        """Turn K + 1 rows of a softmax classifier into those of a loss with others, in place.

        As :meth:`LongTailOutputLayers.adopt`: columns that the file has not keep their own start,
        and of a sigmoid the bias stays that of the prior. K + 1 rows for K + 1 sigmoid columns are
        loaded as they are, biases too: such a file may be of that loss, and ACSL's release starts
        from a softmax so.
        """
        for name, module in self.model.named_modules():
            if not isinstance(module, LongTailOutputLayers):
                continue
            k, weight = module.num_classes, state.get(f"{name}.cls_score.weight")
            rows = len(module.cls_score.weight)
            if weight is None or weight.shape[0] != k + 1:
                continue
            if rows == k + 1:
                if module.kind == "sigmoid" and not self._resumes:
                    logger.info(
                        "%s.cls_score: K + 1 rows are taken as they are, with their biases; "
                        "LT_DET.PRIOR_PROB has no part in them. LT_DET.RESET_CLASSIFIER of a "
                        "decoupled training starts them anew",
                        name,
                    )
                continue
            if weight.shape[1:] != module.cls_score.weight.shape[1:]:
                continue  # another network; Detectron2 says so
            for part in ("weight", "bias"):
                key = f"{name}.cls_score.{part}"
                own = getattr(module.cls_score, part).detach().clone()
                if part == "weight" or module.kind == "softmax":
                    value = torch.as_tensor(state.get(key, own)).to(own)
                    own[:k] = value[:k]
                    if module.has_background:
                        own[-1] = value[-1]
                if key in state:
                    state[key] = own
            logger.info(
                "%s.cls_score: %d rows of a softmax classifier became %d of a %s one. %s",
                name,
                k + 1,
                rows,
                "sigmoid" if module.kind == "sigmoid" else module.criterion.name,
                "The background's was dropped; biases start from the prior, because those of a "
                "softmax mean something else"
                if module.kind == "sigmoid"
                else "Columns that are no class and no background start anew",
            )


def _with_model(data: dict[str, Any]) -> dict[str, Any]:
    """Return ``data`` with its weights under "model"; other projects have them elsewhere."""
    if "model" in data:
        return data
    inner = data.get("state_dict")
    return {"model": inner if isinstance(inner, dict) else data}


def _unlike_weights(value: torch.Tensor) -> str | None:
    """Return what makes a tensor none of a detector's weights, or None."""
    if value.is_meta:
        return "no values"
    if value.is_complex():
        return "complex numbers"
    return "sparse numbers" if value.layout != torch.strided else None


def _address_hint(path: str) -> str:
    """Return where to download a file of Detectron2's model zoo."""
    prefix = "detectron2://"
    if not path.startswith(prefix):
        return ""
    return f". Its address: https://dl.fbaipublicfiles.com/detectron2/{path[len(prefix) :]}"


class ClassStatsState:
    """Makes :class:`ClassStats` part of a checkpoint."""

    def __init__(self, stats: ClassStats) -> None:
        self._stats = stats

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics as plain numbers and strings."""
        return self._stats.to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Warn if a resumed run counts other numbers than the one that wrote the checkpoint."""
        before = ClassStats.from_dict(state)
        if before.image_counts != self._stats.image_counts:
            logger.warning(
                "the training set has changed since the checkpoint was written: %s had %d "
                "annotated images, %s has %d. Losses use the present counts",
                before.name,
                before.num_images,
                self._stats.name,
                self._stats.num_images,
            )
