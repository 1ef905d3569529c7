"""Records in a file: the same as the list, whatever happens to the file."""

from __future__ import annotations

import copy
import json
import logging
import multiprocessing
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from lt_det.data.records.record_cache import cached_records
from lt_det.data.records.stored_records import StoredRecords, write_records
from lt_det.data.sampling.samplers import classes_of_images
from lt_det.storage import digest
from lt_det.storage.digest import content_hash, hash_file


def records(count: int, *, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "file_name": f"{k}.jpg",
            "image_id": 3 * k,
            "annotations": [
                {
                    "bbox": rng.random(4).tolist(),
                    "category_id": int(rng.integers(5)),
                    "segmentation": {"size": [3, 4], "counts": b"\x01\xff"},
                    **({"iscrowd": int(rng.integers(2))} if k % 2 else {}),
                }
                for _ in range(rng.integers(0, 6))
            ],
        }
        for k in range(count)
    ]


@pytest.fixture
def made(tmp_path):
    """A function that stores records in a file, in memory, or half and half."""

    def make(kind: str, given: list[dict]) -> StoredRecords:
        if kind == "memory":
            return StoredRecords.packed(given, {"k": 1})
        if kind == "joined":
            half = len(given) // 2
            return StoredRecords.joined([make("file", given[:half]), make("memory", given[half:])])
        write_records(tmp_path / "sub" / "records.bin", given, about={"k": 1})
        return StoredRecords.open(tmp_path / "sub" / "records.bin")

    return make


@pytest.mark.parametrize("kind", ["file", "memory", "joined"])
def test_acts_as_the_list(made, kind):
    given = records(20)
    stored = made(kind, given)
    assert list(stored) == given
    assert len(stored) == 20
    assert [stored[k] for k in (0, 9, 10, 19, -1, -20)] == [given[k] for k in (0, 9, 10, 19, -1, 0)]
    assert list(stored[3:17:4]) == given[3:17:4]
    assert list(stored * 3) == given * 3
    assert list(stored[5:].take(np.array([4, 0, 4]))) == [given[9], given[5], given[9]]
    assert list(pickle.loads(pickle.dumps(stored[5:12]))) == given[5:12]
    assert stored.about == {"k": 1}
    for index in (20, -21):
        with pytest.raises(IndexError):
            stored[index]
    stored[0]["image_id"] = 99  # a new dict each time
    assert list(stored) == given


@pytest.mark.parametrize("kind", ["file", "memory", "joined"])
def test_instances_and_classes_are_those_of_the_records(made, kind):
    given = records(30)
    for rows in (slice(None), slice(25, 3, -2)):
        stored = made(kind, given)[rows]
        expected = [
            (k, a["category_id"], bool(a.get("iscrowd", 0)))
            for k, record in enumerate(given[rows])
            for a in record["annotations"]
        ]
        assert list(zip(*(column.tolist() for column in stored.instances()))) == expected
        assert classes_of_images(stored) == classes_of_images(given[rows])


def test_a_file_carries_its_path_to_other_processes_not_its_records(made):
    stored = made("file", records(500))
    assert len(pickle.dumps(stored)) < 6000  # the rows, 8 bytes each
    assert len(pickle.dumps(made("memory", records(500)))) > 50_000


def test_a_record_that_names_a_function_is_not_run(tmp_path):
    class Call:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "run"),))

    with pytest.raises(ValueError, match="records do not hold posix.mkdir"):
        write_records(tmp_path / "records.bin", [{"x": Call(), "annotations": []}])
    assert list(tmp_path.iterdir()) == []  # neither the call nor a part of the file


DAMAGES = {
    "empty": lambda data: data[:0],
    "cut": lambda data: data[:-30],
    "half": lambda data: data[: len(data) // 2],
    "other": lambda data: b"x" * len(data),
    "index": lambda data: data[:-300] + bytes([data[-300] ^ 1]) + data[-299:],
}


@pytest.fixture
def cached(tmp_path):
    """Load a json through the cache; notes each time that the json is really read."""
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"seed": 1}))
    reads = []

    def load():
        seed = json.loads(path.read_text())["seed"]
        reads.append(seed)
        return records(10, seed=seed), {"seed": seed}

    def get(**options):
        options = {"options": ["a"], "smallest": 0, "cache_dir": tmp_path / "cache", **options}
        return cached_records(path, load, **options)

    return path, reads, get


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_file_is_replaced_with_one_warning(cached, damage, tmp_path, caplog):
    _, reads, get = cached
    expected = list(get())
    (stored,) = (tmp_path / "cache").glob("records_*.bin")
    whole = stored.read_bytes()
    stored.write_bytes(DAMAGES[damage](whole))
    caplog.clear()
    assert list(get()) == expected
    assert reads == [1, 1]
    assert [r.levelname for r in caplog.records if r.levelno >= logging.WARNING] == ["WARNING"]
    assert stored.read_bytes() == whole
    assert list(get()) == expected
    assert reads == [1, 1]


def test_a_broken_record_is_an_error_that_names_the_file(cached, tmp_path):
    get = cached[2]
    get()
    (stored,) = (tmp_path / "cache").glob("records_*.bin")
    data = bytearray(stored.read_bytes())
    data[40] ^= 1
    stored.write_bytes(data)
    with pytest.raises(RuntimeError, match=f"record 0 of .*{stored.name} is broken; delete"):
        get()[0]


def change(path, seed: int, *, keep_times: bool) -> None:
    before = path.stat()
    path.write_text(json.dumps({"seed": seed}))
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_changed_json_of_the_same_size_is_read_again(cached, keep_times, monkeypatch):
    monkeypatch.setattr(digest, "_SETTLED_SECONDS", 0)  # the hash is remembered at once
    path, reads, get = cached
    time.sleep(0.02)
    assert get().about == {"seed": 1}
    assert len(list(path.parent.glob("cache/hash_*.json"))) == 1
    time.sleep(0.02)
    change(path, 2, keep_times=keep_times)
    assert get().about == {"seed": 2}
    change(path, 1, keep_times=keep_times)
    assert get().about == {"seed": 1}
    assert reads == [1, 2]  # the first content is known still


def test_other_options_and_refused_records_are_loaded_anew(cached, tmp_path):
    _, reads, get = cached
    get()
    get()
    assert len(reads) == 1
    get(options=["b"])
    assert len(reads) == 2
    assert len(get(is_valid=lambda stored: len(stored) == 0)) == 10
    assert len(reads) == 3
    assert len(list((tmp_path / "cache").glob("records_*.bin"))) == 1  # refused: not kept


def test_small_jsons_are_not_cached(cached, tmp_path):
    get = cached[2]
    assert list(get(smallest=10_000)) == records(10, seed=1)
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_costs_one_warning(cached, tmp_path, caplog):
    _, reads, get = cached
    (tmp_path / "file").write_text("")
    assert list(get(cache_dir=tmp_path / "file" / "cache")) == records(10, seed=1)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "Nothing could be cached" in caplog.text


def test_planted_links_are_not_followed(cached, tmp_path, caplog):
    """Where another user could put links, a victim's file is not touched."""
    _, reads, get = cached
    get()
    (stored,) = (tmp_path / "cache").glob("records_*.bin")
    victim = tmp_path / "victim"
    for name in (stored.name, stored.with_suffix(".lock").name):
        path = tmp_path / "cache" / name
        path.unlink()
        victim.write_text("precious")
        path.symlink_to(victim)
    assert list(get()) == records(10, seed=1)
    assert victim.read_text() == "precious"
    assert reads == [1, 1]
    assert not stored.is_symlink()  # replaced by a file
    assert len(caplog.records) == 2  # the record file, the lock


def test_named_pipes_are_refused_at_once(cached, tmp_path, caplog):
    path, reads, get = cached
    get()
    (stored,) = (tmp_path / "cache").glob("records_*.bin")
    stored.unlink()
    os.mkfifo(stored)
    assert list(get()) == records(10, seed=1)
    assert reads == [1, 1]
    assert stored.is_fifo()  # left to whom it belongs; the cache does without
    assert "is a named pipe" in caplog.text
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is a named pipe"):
        get()


def test_a_folder_that_others_may_write_is_not_used(cached, tmp_path, caplog):
    get = cached[2]
    get()
    (tmp_path / "cache").chmod(0o777)
    before = sorted((tmp_path / "cache").iterdir())
    assert list(get()) == records(10, seed=1)
    assert sorted((tmp_path / "cache").iterdir()) == before
    assert "others may write it" in caplog.text


def test_the_hash_is_remembered_only_of_a_file_at_rest(tmp_path, monkeypatch):
    path = tmp_path / "set.json"
    path.write_text("{}")
    read = []
    monkeypatch.setattr(digest, "hash_file", lambda p: read.append(p) or hash_file(p))
    for _ in range(2):  # changed within the last seconds: it may change unseen
        assert content_hash(path, cache_dir=tmp_path / "cache") == hash_file(path)
    assert len(read) == 2
    now = time.time()
    monkeypatch.setattr(digest.time, "time", lambda: now + 10)
    for _ in range(2):
        assert content_hash(path, cache_dir=tmp_path / "cache") == hash_file(path)
    assert len(read) == 3
    (note,) = (tmp_path / "cache").glob("hash_*.json")
    for broken in ("", "[]", "{}", "[" * 100_000, note.read_text().replace('"state"', '"stat"')):
        note.write_text(broken)
        assert content_hash(path, cache_dir=tmp_path / "cache") == hash_file(path)


def _load_slowly(folder, barrier) -> None:
    def load():
        (folder / f"read_by_{os.getpid()}").touch()
        time.sleep(0.5)
        return records(10), {}

    barrier.wait()
    stored = cached_records(
        folder / "set.json", load, options=[], smallest=0, cache_dir=folder / "cache"
    )
    assert list(stored) == records(10)
    (folder / f"done_{os.getpid()}").touch()


def test_of_two_processes_at_once_one_reads_the_json(tmp_path):
    (tmp_path / "set.json").write_text("{}")
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_load_slowly, args=(tmp_path, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(list(tmp_path.glob("done_*"))) == 2
    assert len(list(tmp_path.glob("read_by_*"))) == 1
    assert not list(tmp_path.glob("cache/*.partial"))


def _own_memory(stored, queue) -> None:
    """Report the private memory of a process after it read all records, in bytes."""

    def private() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return sum(1024 * int(s.split()[1]) for s in lines if s.startswith("Private_"))

    before = private()
    total = sum(len(record["blob"]) for record in stored)
    queue.put((private() - before, total))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_takes_no_memory_of_its_own_for_the_records(method, tmp_path):
    if not os.path.exists("/proc/self/smaps_rollup"):
        pytest.skip("needs Linux's /proc/self/smaps_rollup")
    blob = np.random.default_rng(0).bytes(200_000)
    given = [{"annotations": [], "blob": blob + bytes([k])} for k in range(200)]
    write_records(tmp_path / "records.bin", given)
    size = os.path.getsize(tmp_path / "records.bin")
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    stored = StoredRecords.open(tmp_path / "records.bin")
    # Pages of a file count as private while one process alone has read them.
    assert len(list(stored)) == 200
    worker = context.Process(target=_own_memory, args=(stored, queue))
    worker.start()
    own, total = queue.get(timeout=60)
    worker.join(60)
    assert total == sum(len(record["blob"]) for record in given)
    assert own < 0.1 * size


def test_inputs_are_not_changed(tmp_path):
    given = records(5)
    before = copy.deepcopy(given)
    write_records(tmp_path / "records.bin", given)
    StoredRecords.packed(given)
    assert given == before


def test_a_json_that_changes_while_it_is_read_is_not_cached(tmp_path, caplog):
    path = tmp_path / "a.json"
    path.write_text("1")
    options = {"options": [], "cache_dir": tmp_path / "cache", "smallest": 0}

    def load():
        path.write_text("22")
        return records(3), "of the second"

    cached_records(path, load, **options)
    assert "changed while it was read" in caplog.text
    path.write_text("1")
    found = cached_records(path, lambda: (records(2), "of the first"), **options)
    assert found.about == "of the first"
    again = cached_records(path, lambda: pytest.fail("not cached"), **options)
    assert len(again) == 2
