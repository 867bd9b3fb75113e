"""Making a folder's entries durable, together with whoever wants the same at the same moment."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway_common.storage import files
from slipway_common.storage.files import _Folders, _Turn


class Disk:
    """Remembers when each sync began and ended, and can be slow or broken."""

    def __init__(self) -> None:
        self.syncs: list[tuple[float, float]] = []
        self.pause_s = 0.02
        self.broken = False
        self._lock = threading.Lock()

    def fsync(self, _folder: Path) -> None:
        began = time.monotonic()
        time.sleep(self.pause_s)
        if self.broken:
            self.broken = False  # as the kernel does: the next call succeeds, without what this one lost
            raise OSError(errno.EIO, "lost")
        with self._lock:
            self.syncs.append((began, time.monotonic()))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(files, "_fsync_folder", disk.fsync)
    return disk


def at_once(number: int, work: Callable[[int], object]) -> list[object]:
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(work, range(number)))


def test_each_caller_is_covered_by_a_sync_that_began_after_it_came(disk: Disk, tmp_path: Path) -> None:
    folders = _Folders(tmp_path)

    def call(number: int) -> tuple[float, float]:
        time.sleep(number * 0.003)
        came = time.monotonic()
        folders.sync(tmp_path)
        return came, time.monotonic()

    for came, went in at_once(24, call):  # type: ignore[misc]
        assert any(came <= began and ended <= went + 0.001 for began, ended in disk.syncs)


def test_callers_share_syncs(disk: Disk, tmp_path: Path) -> None:
    folders = _Folders(tmp_path)
    at_once(16, lambda _: folders.sync(tmp_path))
    assert len(disk.syncs) <= 3
    folders.sync(tmp_path)
    assert len(disk.syncs) <= 4


def test_folders_do_not_wait_for_each_other(disk: Disk, tmp_path: Path) -> None:
    folders = _Folders(tmp_path)
    disk.pause_s = 0.1
    started = time.monotonic()
    at_once(8, lambda number: folders.sync(tmp_path / str(number)))
    assert len(disk.syncs) == 8
    assert time.monotonic() - started < 0.5


def test_failed_sync_fails_all_who_came_before_it_began(disk: Disk, tmp_path: Path) -> None:
    folders = _Folders(tmp_path)
    turn = folders._turns.setdefault(tmp_path, _Turn())
    disk.broken = True

    def call(_number: int) -> bool:
        try:
            folders.sync(tmp_path)
        except OSError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        with turn.lock:
            calls = [pool.submit(call, number) for number in range(4)]
            time.sleep(0.2)
        assert [done.result() for done in calls] == [False] * 4
    assert call(0), "who comes later has lost nothing"
