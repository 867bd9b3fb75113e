"""The master key: one file that all services share, which encrypts whatever secret the database holds."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from slipway_common.errors import Misconfigured


class SecretBox:
    """Encrypts and decrypts small secrets.

    The key file holds one key a line: the first encrypts, all decrypt, so a new key is put in front to rotate.
    """

    def __init__(self, keys: list[Fernet]) -> None:
        self._box = MultiFernet(keys)

    def seal(self, secret: bytes) -> bytes:
        return self._box.encrypt(secret)

    def open(self, sealed: bytes) -> bytes:
        """Raise Misconfigured if `sealed` was made with a key that the file no longer has."""
        try:
            return self._box.decrypt(sealed)
        except InvalidToken as exc:
            raise Misconfigured(
                "a secret in the database was encrypted with another master key: restore that key file"
            ) from exc


def load_master_key(path: Path) -> SecretBox:
    """Read the key file, making it where it is missing. Safe when several services start at once.

    Raises Misconfigured when the file cannot be read, written, or understood.
    """
    try:
        if not path.exists():
            _create(path)
        lines = path.read_text("ascii").split()
        return SecretBox([Fernet(line) for line in lines])
    except OSError as exc:
        raise Misconfigured(f"master_key_file {path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise Misconfigured(
            f"master_key_file {path} holds no usable key: one line of 32 bytes in URL-safe base64"
        ) from exc


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".master.key.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another service was first: its key counts
            os.link(name, path)
    finally:
        os.unlink(name)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
