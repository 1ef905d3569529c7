"""Watch the ranks of a distributed run, end a wait that is in vain, and name the rank.

Every rank marks its progress in a key-value store. A rank that hangs leaves its mark as it is, one
that was stopped or died also its heartbeat.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats at most, before a wait is logged, and between two such lines.
_BEAT, _SAY_AFTER, _SAY_AGAIN = 2.0, 10.0, 600.0
#: Heartbeats that may be late.
_BEATS = 4


class RankWatch:
    """Marks and heartbeats of all ranks.

    Its thread ends this process, with status 1, once nothing has moved here for the limit and a
    rank that is behind has not moved either: the main thread may wait where no exception reaches
    it, in NCCL or gloo.
    """

    def __init__(self, store: dist.Store, *, rank: int, world_size: int, limit: timedelta) -> None:
        """Join the watch; returns when all ranks have.

        Args:
            store: of all ranks.
            rank: of this process.
            world_size: number of processes.
            limit: how long a rank may make no progress while others wait for it.
        """
        self._store, self._rank, self._others = store, rank, sorted({*range(world_size)} - {rank})
        self._limit = limit.total_seconds()
        self._beat = min(_BEAT, self._limit / 10)
        self._phase = self._steps = 0
        #: Rank -> mark and beats that were seen last, each with the time when that was new.
        self._marks: dict[int, tuple[str, float]] = {}
        self._beats: dict[int, tuple[int, float]] = {}
        self._verdict: str | None = None
        self._ended = threading.Event()
        self.mark("start")
        self._thread = threading.Thread(target=self._run, name="rank watch", daemon=True)
        self._thread.start()
        self.wait_for_all("start")

    def mark(self, what: str, *, waits: bool = False) -> None:
        """Report that this rank makes progress.

        Args:
            what: it does from here on.
            waits: whether it only waits for others.
        """
        self._steps += 1
        # Ordered by how far ranks are; those that wait are as far as can be, by whatever steps.
        steps = 10**15 - 1 if waits else self._steps
        self._mark, self._since = f"{self._phase:09d} {steps:015d} {what}", time.monotonic()
        with contextlib.suppress(RuntimeError):  # the thread sees that the store is gone
            self._store.set(f"mark{self._rank}", self._mark)
            self._store.add(f"marked{self._rank}", 1)

    def wait_for_all(self, what: str) -> None:
        """Return when every rank is here; ranks may take as long as they make progress.

        Raises:
            RuntimeError: if one does not; names it.
        """
        self.mark(what, waits=True)
        key, pause, say_at = f"reached{self._phase}", 0.001, self._since + _SAY_AFTER
        try:
            self._store.add(key, 1)
            while self._store.add(key, 0) <= len(self._others):
                if self._verdict:
                    raise RuntimeError(self._verdict)
                time.sleep(pause)
                pause = min(2 * pause, self._beat)
                if time.monotonic() > say_at:
                    say_at += _SAY_AGAIN
                    logger.info("%s: waiting for %s", what, self._behind())
        except RuntimeError as error:
            if self._verdict:
                raise
            raise RuntimeError(_STORE_GONE) from error
        self._phase, self._steps = self._phase + 1, 0
        self.mark(f"after {what}")

    def explain(self, error: BaseException) -> str | None:
        """Return which ranks failed or are gone, where this one ends with ``error``."""
        try:
            self._store.set(f"error{self._rank}", f"{type(error).__name__}: {error}"[:1000])
            self._store.add(f"failed{self._rank}", 1)
            if not isinstance(error, RuntimeError):  # not one of communication
                return None
            before = {rank: self._store.add(f"beat{rank}", 0) for rank in self._others}
            time.sleep(_BEATS * self._beat)
            for rank in self._others:
                if self._store.add(f"failed{rank}", 0):
                    return f"rank {rank} failed: {self._store.get(f'error{rank}').decode()}"
            gone = [r for r in self._others if self._store.add(f"beat{r}", 0) == before[r]]
        except RuntimeError:
            return _STORE_GONE
        return f"rank {', '.join(map(str, gone))} was stopped or died" if gone else None

    def stop(self) -> None:
        """End the watch: this rank needs no other any more."""
        self.mark("end", waits=True)
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._beat):
            stuck = time.monotonic() - self._since >= self._limit
            try:
                self._store.add(f"beat{self._rank}", 1)
                if time.monotonic() - self._since < self._beat:
                    self._marks, self._beats = {}, {}  # nothing to ask about here
                    continue
                self._look()
                message = self._late() if stuck else None
            except RuntimeError:
                message = _STORE_GONE if stuck else None
            if message is None:
                self._verdict = None
            elif self._verdict is None:
                self._verdict = message  # wait_for_all raises it, if that is where we are
            else:
                logger.critical(message)
                sys.stderr.write(f"{message}\n")
                sys.stderr.flush()
                os._exit(1)

    def _look(self) -> None:
        now = time.monotonic()
        marks, beats = dict(self._marks), dict(self._beats)
        for rank in self._others:
            beat = self._store.add(f"beat{rank}", 0)
            if rank not in beats or beats[rank][0] != beat:
                beats[rank] = (beat, now)
            started = self._store.add(f"marked{rank}", 0)
            text = self._store.get(f"mark{rank}").decode() if started else _NOT_STARTED
            if rank not in marks or marks[rank][0] != text:
                marks[rank] = (text, now)
        self._marks, self._beats = marks, beats

    def _late(self) -> str | None:
        """Return a message on the ranks that are behind, if they have not moved for the limit."""
        now = time.monotonic()
        marks = {**self._marks, self._rank: (self._mark, self._since)}
        first = min(_place(text) for text, _ in marks.values())
        late = [rank for rank in sorted(marks) if _place(marks[rank][0]) == first]
        if any(now - marks[rank][1] < self._limit for rank in late):
            return None
        # Ranks may all be in the same iteration; then those whose heart stands still are to blame.
        dead = [r for r, (_, since) in self._beats.items() if now - since > _BEATS * self._beat]
        what = " and ".join(
            f"rank {rank}, which {'was stopped or died' if rank in dead else 'hangs'} in "
            f"{_what(marks[rank][0])!r}"
            for rank in ([rank for rank in late if rank in dead] or late)
        )
        return (
            f"rank {self._rank} has waited {self._limit:g} s in {_what(self._mark)!r} for {what}: "
            "see the log of that rank. If it only takes long, raise RANK_TIMEOUT_MINUTES"
        )

    def _behind(self) -> str:
        marks = [(_place(text), rank, _what(text)) for rank, (text, _) in self._marks.items()]
        first = min((place for place, *_ in marks), default=None)
        names = [f"rank {rank} ({what})" for place, rank, what in sorted(marks) if place == first]
        return ", ".join(names[:4])


_NOT_STARTED = f"{0:09d} {0:015d} not started"
_STORE_GONE = (
    "rank 0, or the process that keeps the store of the process group, is gone: see its log"
)


def _place(mark: str) -> tuple[str, ...]:
    return tuple(mark.split(" ", 2)[:2])


def _what(mark: str) -> str:
    return mark.split(" ", 2)[2]


_WATCH: RankWatch | None = None


def watch_ranks(watch: RankWatch | None) -> None:
    """Make ``watch`` that of this process, for the functions below; None ends the one there is."""
    global _WATCH
    if watch is None and _WATCH is not None:
        _WATCH.stop()
    _WATCH = watch


def mark(what: str) -> None:
    """Report that this rank makes progress; does nothing without a watch."""
    if _WATCH is not None:
        _WATCH.mark(what)


def wait_for_all(what: str, *, barrier: Callable[[], None] = lambda: None) -> None:
    """Return when every rank is here.

    Args:
        what: they do then; for messages.
        barrier: called where there is no watch.

    Raises:
        RuntimeError: if a rank makes no progress for the limit; names it.
    """
    if _WATCH is None:
        barrier()
    else:
        _WATCH.wait_for_all(what)


def explain(error: BaseException) -> str | None:
    """Return which ranks failed or are gone where this one ends with ``error``, if known."""
    return _WATCH.explain(error) if _WATCH is not None else None
