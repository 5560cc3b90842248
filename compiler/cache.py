"""Compiled programs on disk: `Cache.read(key)`, `Cache.write(key, content)`; `of_environment()` is the one in use.

    GRAPHFLOW_CACHE=dir      where (default: the user's cache directory); `0` or `off`: nowhere
    GRAPHFLOW_CACHE_MB=512   about how much is kept; what was not used for longest gives way

A key is what `cache_key.digest_of` makes of a program. A file is a magic line, a BLAKE2b digest of key and content, and
the content.  It is written under another name and moved into place, so a process that is killed at any moment leaves at
most a file that nobody reads; there are no locks.  What is damaged, cut short, of another key, or not the user's own is
removed and never used: an entry holds machine code.  A directory that others may write to is not used at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from graphflow.compiler.cache_key import DIGEST_BYTES

__all__ = ["STATISTICS", "Cache", "Statistics", "directory", "of_environment"]

MAGIC = b"graphflow cache 1\n"
ENTRY = re.compile(r"[0-9a-f]{64}\.gfc")
UNFINISHED = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}\.tmp")
ABANDONED_SECONDS = 600
"""A file that has been in the making for so long belongs to a process that was killed."""

DEFAULT_MB = 512
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass
class Statistics:
    """What happened in this process so far."""

    hits: int = 0
    misses: int = 0
    writes: int = 0
    rejected: int = 0  # files that were damaged or not to be trusted
    optimized: int = 0  # modules that LLVM's optimizer and code generator were given


STATISTICS = Statistics()
_warned: set[str] = set()


class Cache:
    """A directory of entries, each found by a key of 64 hexadecimal digits, of about `limit` bytes in all."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._unchecked: int | None = None  # bytes written since the size was looked at; None: never looked at

    def read(self, key: str) -> bytes | None:
        """The content that was written for a key; None if there is none, or none that can be trusted."""
        found = self._load(key) if self._is_safe(create=False) else None
        if found is None:
            STATISTICS.misses += 1
            return None
        STATISTICS.hits += 1
        return found

    def write(self, key: str, content: bytes) -> None:
        """Keep content for a key.  What does not work out (a full disk, no permission) leaves nothing behind."""
        if len(content) > self.limit // 4 or not self._is_safe(create=True):
            return
        path = self._path(key)
        unfinished = path.with_suffix(f".{secrets.token_hex(8)}.tmp")
        try:
            self._store(unfinished, b"".join((MAGIC, _digest(key, content), content)))
            os.replace(unfinished, path)
        except OSError as error:
            _warn_if_named(self.folder, f"can't be written to ({error.strerror})")
            return
        finally:
            unfinished.unlink(missing_ok=True)
        STATISTICS.writes += 1
        self._bound(len(content))

    def reject(self, key: str) -> None:
        """Remove an entry whose content makes no sense, and count it as a miss after all."""
        STATISTICS.hits -= 1
        STATISTICS.misses += 1
        _refuse(self._path(key))

    def entries(self) -> list[tuple[Path, os.stat_result]]:
        """Every entry with its size and time of last use, the last used first."""
        found = [(path, status) for path, status in self._files() if ENTRY.fullmatch(path.name)]
        return sorted(found, key=lambda entry: -entry[1].st_mtime_ns)

    def clear(self) -> int:
        """Remove everything that this module put there; returns the number of entries."""
        count = len(self.entries())
        for path, _ in self._files():
            _remove(path)
        return count

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.gfc"

    def _load(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            return None
        except OSError:  # a symbolic link, or not ours to read
            _refuse(path)
            return None
        with open(handle, "rb") as file:
            # The open file is asked, not its name, which may be another file's a moment later.
            if not _is_own(os.fstat(handle)) or os.fstat(handle).st_size > self.limit:
                _refuse(path)
                return None
            data = file.read()
        head, content = data[: len(MAGIC) + DIGEST_BYTES], data[len(MAGIC) + DIGEST_BYTES :]
        if head != MAGIC + _digest(key, content):
            _refuse(path)
            return None
        with suppress(OSError):  # removed by another process; what was read is good
            os.utime(path)  # used now: the last to be removed
        return content

    def _store(self, path: Path, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)

    def _is_safe(self, create: bool) -> bool:
        """Whether the directory is there and nobody else can put files into it; makes it if `create`."""
        try:
            if create:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.folder.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            _warn_if_named(self.folder, f"can't be used ({error.strerror})")
            return False
        if not stat.S_ISDIR(status.st_mode):
            _warn(self.folder, "is no directory")
            return False
        if not _is_own(status, stat.S_IFDIR):
            _warn(self.folder, "belongs to another user, or others can write to it")
            return False
        return True

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The files that this module made."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return
        for name in names:
            if not ENTRY.fullmatch(name) and not UNFINISHED.fullmatch(name):
                continue
            try:
                yield self.folder / name, os.lstat(self.folder / name)
            except OSError:
                continue  # removed by another process

    def _bound(self, written: int) -> None:
        """Keep the size within the limit; looked at once, then whenever a sixteenth of it was written."""
        if self._unchecked is not None:
            self._unchecked += written
            if self._unchecked < self.limit // 16:
                return
        self._unchecked = 0
        for path, status in self._files():
            if UNFINISHED.fullmatch(path.name) and status.st_mtime < time.time() - ABANDONED_SECONDS:
                _remove(path)
        total = 0
        for path, status in self.entries():
            total += status.st_size
            if total > self.limit:
                _remove(path)


def _digest(key: str, content: bytes) -> bytes:
    """Tells that content is what was written, and for this key."""
    state = hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES)
    state.update(content)
    return state.digest()


def _is_own(status: os.stat_result, kind: int = stat.S_IFREG) -> bool:
    """Whether it is of that kind, the user's, and writable to nobody else.  Windows guards the profile by itself."""
    if stat.S_IFMT(status.st_mode) != kind:
        return False
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & WRITABLE_BY_OTHERS)


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows: another process has it open
        path.unlink(missing_ok=True)


def _refuse(path: Path) -> None:
    """Never use a file."""
    STATISTICS.rejected += 1
    _remove(path)


def _warn_if_named(folder: Path, why: str) -> None:
    """Say so of a directory that the user has named; that a home can't be written to is no news."""
    if os.environ.get("GRAPHFLOW_CACHE"):
        _warn(folder, why)


def _warn(folder: Path, why: str) -> None:
    """Say once that a directory is of no use."""
    if str(folder) in _warned:
        return
    _warned.add(str(folder))
    message = f"graphflow: the compile cache {folder} {why}; nothing is cached (GRAPHFLOW_CACHE=off turns this off)"
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def of_environment() -> Cache | None:
    """The cache that the environment asks for; None where it is turned off."""
    folder = directory()
    return None if folder is None else _cache(folder, _limit())


_caches: dict[tuple[Path, int], Cache] = {}


def _cache(folder: Path, limit: int) -> Cache:
    return _caches.setdefault((folder, limit), Cache(folder, limit))


def _limit() -> int:
    """Bytes; raises ValueError for what is no number of megabytes."""
    text = os.environ.get("GRAPHFLOW_CACHE_MB", "").strip() or str(DEFAULT_MB)
    if not text.isdecimal():
        raise ValueError(f"GRAPHFLOW_CACHE_MB={text!r} is not a number of megabytes")
    return int(text) * 1_000_000


def directory() -> Path | None:
    """GRAPHFLOW_CACHE, or where the system keeps what programs can make again; None if it is turned off."""
    text = os.environ.get("GRAPHFLOW_CACHE", "").strip()
    if text.lower() in ("0", "off"):
        return None
    try:
        return Path(text).expanduser().absolute() if text else _user_directory() / "graphflow"
    except RuntimeError:  # a user without a home
        return None


def _user_directory() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if os.name == "nt":
        local = os.environ.get("LOCALAPPDATA", "")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    named = os.environ.get("XDG_CACHE_HOME", "")  # to be ignored if relative, says the XDG specification
    return Path(named) if os.path.isabs(named) else Path.home() / ".cache"
