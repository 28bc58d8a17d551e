"""The store of jobs: each is in one state, whoever looks and whoever dies."""

import sqlite3
import threading
from pathlib import Path

import pytest

from videolm.serve.store import Record, Store, new_id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "jobs.sqlite")


def add(store: Store, owner: str = "", most: int = 100) -> Record | None:
    return store.add(new_id(), owner, {"prompt": "x"}, {"size": "64x64"}, most)


def test_a_job_from_queue_to_end(store: Store) -> None:
    job = add(store)
    assert job is not None and job.status == "queued" and job.request == {"prompt": "x"}
    (begun,) = store.claim("w", 8, alone=True)
    assert (begun.id, begun.status, begun.attempts, begun.worker) == (job.id, "in_progress", 1, "w")
    assert store.claim("v", 8, alone=True) == []
    assert store.report([(job.id, 0.5, 3)], "w") == set()
    found = store.get(job.id)
    assert found is not None and (found.progress, found.frames) == (0.5, 3)
    assert not store.complete(job.id, "v", {}, None)  # another worker's
    assert store.complete(job.id, "w", {"size": "32x32"}, 5.0)
    found = store.get(job.id)
    assert found is not None and found.over and found.shown == {"size": "32x32"} and store.expired() == [job.id]
    assert not store.cancel(job.id, None) and not store.fail(job.id, "x", "x", None)


def test_a_cancelled_job_is_its_workers_no_more(store: Store) -> None:
    waiting, begun = add(store), add(store)
    assert waiting and begun
    store.cancel(waiting.id, None)
    assert [job.id for job in store.claim("w", 8, alone=True)] == [begun.id]
    store.cancel(begun.id, None)
    assert store.report([(begun.id, 0.9, 0)], "w") == {begun.id}
    assert not store.complete(begun.id, "w", {}, None)
    found = store.get(begun.id)
    assert found is not None and (found.status, found.code) == ("failed", "cancelled")


def test_a_full_queue_takes_no_more_of_one_owner(store: Store) -> None:
    assert add(store, "a", 2) and add(store, "a", 2) and add(store, "a", 2) is None and add(store, "b", 2)
    store.claim("w", 1, alone=True)
    assert add(store, "a", 2) is None  # one that is being made counts
    assert store.counts() == {"queued": 2, "in_progress": 1, "completed": 0, "failed": 0}


def test_what_was_begun_before_is_made_alone_and_in_its_place(store: Store) -> None:
    one, two, three = (add(store) for _ in range(3))
    assert one and two and three
    store.claim("w", 2, alone=True)
    store.requeue([one.id, two.id], forgive=False)
    assert store.claim("v", 8, alone=False) == []  # it has others
    assert [job.id for job in store.claim("v", 8, alone=True)] == [one.id]
    store.complete(one.id, "v", {}, None)
    assert [job.id for job in store.claim("v", 8, alone=True)] == [two.id]
    store.requeue([two.id], forgive=True)
    assert [job.attempts for job in store.claim("v", 8, alone=True)] == [2]
    assert [job.id for job in store.claim("v", 8, alone=True)] == [three.id]


def test_pages_go_on_where_the_last_one_ended(store: Store) -> None:
    ids = [job.id for _ in range(5) if (job := add(store, "a"))]
    add(store, "b")
    assert [job.id for job in store.page("a", 2)] == ids[:2:-1]
    assert [job.id for job in store.page("a", 9, after=ids[3])] == ids[2::-1]
    assert [job.id for job in store.page("a", 2, after=ids[1], newest_first=False)] == ids[2:4]


def test_no_job_is_claimed_twice(tmp_path: Path) -> None:
    """By many threads at once, each with a connection of its own."""
    first = Store(tmp_path / "jobs.sqlite")
    ids = {job.id for _ in range(60) if (job := add(first))}
    claimed, lock = list[str](), threading.Lock()

    def work(name: str) -> None:
        store = Store(tmp_path / "jobs.sqlite")
        while jobs := store.claim(name, 3, alone=True):
            with lock:
                claimed.extend(job.id for job in jobs)
            for job in jobs:
                store.complete(job.id, name, {}, None)
        store.close()

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 60 and set(claimed) == ids


def test_a_full_disk_changes_nothing(store: Store) -> None:
    kept = add(store)
    assert kept is not None
    store._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        for _ in range(200):
            add(store)
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.get(kept.id) == kept and add(store) is not None
