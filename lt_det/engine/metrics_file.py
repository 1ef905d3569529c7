"""Write metrics.json so that a resumed run writes what an uninterrupted one does."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage, EventWriter, JSONWriter, get_event_storage

from lt_det.storage.line_file import append_lines, filter_lines, read_lines

# Detectron2's writers smooth over as many iterations.
_WINDOW = 20
# So many values of a name go into a checkpoint at most: some are put several times an iteration.
_MOST = 10 * _WINDOW
#: What the machine did, not the training. A resumed run starts to measure anew.
OF_THE_MACHINE = ("time", "data_time", "rank_data_time", "eta_seconds")


class MetricsFile(HookBase, EventWriter):
    """metrics.json: a json for each iteration that is logged, a line each, as :class:`JSONWriter`.

    Lines that are written together are in the order of their iterations.
    As a hook it keeps in the checkpoint what the medians of the next lines are made of. The lines
    of a resumed run after its checkpoint, which it repeats, are replaced with its first new one.
    """

    def __init__(self, folder: str) -> None:
        """Write into ``folder``; what another run wrote there stays unless it is resumed."""
        self._path = os.path.join(folder, "metrics.json")
        self._last_write = -1
        #: Whether lines of the run itself may be there, also where it has no checkpoint yet.
        self.resumes = False
        self._start = 0
        self._loaded: dict[str, Any] = {}

    def among(self, writers: Sequence[EventWriter]) -> list[EventWriter]:
        """Return the writers with this one for Detectron2's; not where the folder is an address."""
        if "://" in self._path:
            return list(writers)
        return [self if isinstance(writer, JSONWriter) else writer for writer in writers]

    def state_dict(self) -> dict[str, Any]:
        """Return the last values of each scalar: of the smoothing window, else the latest one."""
        storage = getattr(self.trainer, "storage", None)
        if storage is None:
            return self._loaded
        values = {name: _window(storage, name) for name in storage.latest()}
        kept = {k: v for k, v in values.items() if k.rsplit("/")[-1] not in OF_THE_MACHINE}
        smoothed = {k: bool(storage.smoothing_hints()[k]) for k in kept}
        return {"values": kept, "smoothed": smoothed, "last_write": self._last_write}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` returned; it comes into effect when the training starts."""
        self._loaded = state

    def before_train(self) -> None:
        """Give the values of the checkpoint to the storage of the run that goes on."""
        self._start = self.trainer.start_iter
        self.resumes = self.resumes or self._start > 0
        if not self._loaded:
            return
        # The line of the checkpoint's iteration may have been written after the checkpoint.
        before = [n for n in map(_iteration, read_lines(self._path)) if n < self._start]
        self._last_write = max([int(self._loaded["last_write"]), *before])
        storage = self.trainer.storage
        now = storage.iter
        for name, values in self._loaded["values"].items():
            for value, iteration in values:
                storage.iter = int(iteration)  # Detectron2 v0.6 takes no other
                storage.put_scalar(name, value, smoothing_hint=self._loaded["smoothed"][name])
        storage.iter = now

    def write(self) -> None:
        """Write a line for each iteration with scalars that are in no line yet."""
        storage = get_event_storage()
        lines: dict[int, dict[str, Any]] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint(_WINDOW).items():
            if iteration > self._last_write:
                lines[int(iteration)][name] = value
        if not lines:
            return
        if self.resumes:
            self.resumes = False
            filter_lines(self._path, lambda line: _iteration(line) < self._start)
        self._last_write = max(lines)
        records = [{**lines[number], "iteration": number} for number in sorted(lines)]
        append_lines(self._path, [json.dumps(record, sort_keys=True) for record in records])

    def close(self) -> None:
        """Do nothing: the file is open only while it is written."""


def _iteration(line: str) -> int:
    """Return the iteration of a line, -1 if it has none."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return -1


def _window(storage: EventStorage, name: str) -> list[tuple[float, int]]:
    """Return (value, iteration) of what the next medians of a scalar are made of."""
    value, iteration = storage.latest()[name]
    if not storage.smoothing_hints()[name]:
        return [(value, iteration)]
    values = storage.history(name).values()[-_MOST:]
    recent = sum(number > iteration - _WINDOW for _, number in values)
    return [(float(v), int(number)) for v, number in values[-max(recent, _WINDOW) :]]
