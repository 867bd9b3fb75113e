"""The master key: made once, read by all, changed without losing what it protects."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from slipway_common.errors import Misconfigured
from slipway_common.security.master_key import SecretBox, load_master_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "master.key"


def test_key_is_made_where_it_is_missing_and_for_its_owner_alone(path: Path) -> None:
    sealed = load_master_key(path).seal(b"secret")
    assert load_master_key(path).open(sealed) == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["master.key"]


def test_sealed_secret_does_not_show(path: Path) -> None:
    box = load_master_key(path)
    assert b"secret" not in box.seal(b"secret")
    assert box.seal(b"secret") != box.seal(b"secret")


def test_threads_that_start_at_once_get_one_key(path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        boxes = list(threads.map(load_master_key, [path] * 64))
    sealed = boxes[0].seal(b"secret")
    assert [box.open(sealed) for box in boxes] == [b"secret"] * 64


def test_processes_that_start_at_once_get_one_key(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from slipway_common.security.master_key import load_master_key;"
        "sys.stdin.readline(); print(load_master_key(Path(sys.argv[1])).seal(b'secret').decode())"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", program, str(path)], **pipes) for _ in range(4)]
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    sealed = [process.communicate(timeout=30)[0].strip() for process in started]
    box = load_master_key(path)
    assert [box.open(text.encode()) for text in sealed] == [b"secret"] * 4
    assert os.listdir(path.parent) == ["master.key"]


def test_key_in_front_encrypts_and_those_behind_still_decrypt(path: Path) -> None:
    before = load_master_key(path).seal(b"before")
    path.write_bytes(Fernet.generate_key() + b"\n" + path.read_bytes())
    rotated = load_master_key(path)
    assert rotated.open(before) == b"before"
    after = rotated.seal(b"after")
    path.write_text(path.read_text().splitlines()[0])
    new_only = load_master_key(path)
    assert new_only.open(after) == b"after"
    with pytest.raises(Misconfigured, match="another master key"):
        new_only.open(before)


@pytest.mark.parametrize("sealed", [b"", b"x", b"gAAAAA", bytes(100)])
def test_what_was_not_sealed_here_is_refused(path: Path, sealed: bytes) -> None:
    with pytest.raises(Misconfigured, match="another master key"):
        load_master_key(path).open(sealed)


def test_changed_secret_is_refused(path: Path) -> None:
    box = load_master_key(path)
    sealed = bytearray(box.seal(b"secret"))
    sealed[-10] ^= 1
    with pytest.raises(Misconfigured):
        box.open(bytes(sealed))


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"short", b"\xff\xfe", Fernet.generate_key()[:-2], b"a" * 43, b"not base64 at all!"]
)
def test_file_without_a_usable_key_is_told_to_the_operator(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match="no usable key") as refused:
        load_master_key(path)
    assert str(path) in refused.value.message
    assert path.read_bytes() == content, "a key file that cannot be read is never replaced"


def test_path_that_cannot_be_used_is_told_to_the_operator(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "file" / "master.key", dangling):
        with pytest.raises(Misconfigured, match="master_key_file"):
            load_master_key(path)


def test_box_without_keys_is_none() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SecretBox([])
