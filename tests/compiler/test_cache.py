"""The files of the compile cache: what was written is read, or nothing is."""

import os
import signal
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.compiler import cache as cache_module
from graphflow.compiler.cache import ENTRY, Cache, directory
from graphflow.compiler.cache_key import digest_of

KEY, OTHER = "1" * 64, "2" * 64
CONTENT = bytes(range(256)) * 40
LIMIT = 10**7

posix = pytest.mark.skipif(os.name == "nt", reason="Windows guards the user's profile by itself")


@pytest.fixture
def cache(cache_folder: Path) -> Cache:
    return Cache(cache_folder, LIMIT)


def test_what_was_written_is_read(cache: Cache) -> None:
    assert cache.read(KEY) is None
    cache.write(KEY, CONTENT)
    cache.write(OTHER, b"")
    assert cache.read(KEY) == CONTENT
    assert cache.read(OTHER) == b""
    counts = cache_module.STATISTICS
    assert (counts.hits, counts.misses, counts.writes, counts.rejected) == (2, 1, 2, 0)


@posix
def test_nobody_else_may_read_or_write(cache: Cache) -> None:
    cache.write(KEY, CONTENT)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(status.st_mode) for _, status in cache.entries()] == [0o600]


@given(st.data())
def test_a_damaged_file_is_never_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache"), LIMIT)
    cache.write(KEY, CONTENT)
    path = cache.folder / f"{KEY}.gfc"
    good = path.read_bytes()
    damage = data.draw(st.sampled_from(["bit", "cut", "longer", "empty"]))
    place = data.draw(st.integers(0, len(good) - 1))
    if damage == "bit":
        bad = bytearray(good)
        bad[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        bad = bytearray({"cut": good[:place], "longer": good + b"\0", "empty": b""}[damage])
    path.write_bytes(bad)
    rejected = cache_module.STATISTICS.rejected
    assert cache.read(KEY) is None
    assert cache_module.STATISTICS.rejected == rejected + 1
    assert not path.exists()


def test_a_file_of_another_key_is_not_read(cache: Cache) -> None:
    cache.write(KEY, CONTENT)
    os.rename(cache.folder / f"{KEY}.gfc", cache.folder / f"{OTHER}.gfc")
    assert cache.read(OTHER) is None


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_not_read(cache: Cache, mode: int) -> None:
    cache.write(KEY, CONTENT)
    path = cache.folder / f"{KEY}.gfc"
    path.chmod(mode)
    assert cache.read(KEY) is None
    assert not path.exists()


@posix
def test_a_link_is_not_followed(cache: Cache, tmp_path: Path) -> None:
    cache.write(KEY, CONTENT)
    path = cache.folder / f"{KEY}.gfc"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.read(KEY) is None
    assert (tmp_path / "elsewhere").read_bytes().endswith(CONTENT)


@posix
def test_a_directory_that_others_can_write_to_is_not_used(cache: Cache) -> None:
    cache.write(KEY, CONTENT)
    cache.folder.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="others can write to it"):
        assert cache.read(KEY) is None
    with warnings.catch_warnings(action="error"):  # once is enough
        cache.write(OTHER, CONTENT)
    cache.folder.chmod(0o755)
    assert cache.read(KEY) == CONTENT
    assert cache.read(OTHER) is None


def test_a_file_in_place_of_the_directory_is_named_as_that(cache: Cache) -> None:
    cache.folder.parent.mkdir(parents=True, exist_ok=True)
    cache.folder.write_text("mine")
    with pytest.warns(RuntimeWarning, match="is no directory"):
        assert cache.read(KEY) is None
    assert cache.folder.read_text() == "mine"


@posix
def test_another_users_directory_is_not_used(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write(KEY, CONTENT)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert cache.read(KEY) is None


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path, cache_folder: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache", LIMIT)
    with pytest.warns(RuntimeWarning, match="can't be used"):
        cache.write(KEY, CONTENT)
    assert cache.read(KEY) is None


def test_the_least_recently_used_gives_way(cache_folder: Path) -> None:
    cache = Cache(cache_folder, 20_000)
    keys = [f"{n:064x}" for n in range(6)]
    for age, key in enumerate(keys[:4]):
        cache.write(key, bytes(4_000))
        os.utime(cache_folder / f"{key}.gfc", (0, age))
    assert cache.read(keys[0]) is not None  # used now, so the next one is the oldest
    cache.write(keys[4], bytes(4_000))
    cache.write(keys[5], bytes(4_000))
    left = {path.stem for path, _ in cache.entries()}
    assert left == {keys[0], keys[3], keys[4], keys[5]}
    assert sum(status.st_size for _, status in cache.entries()) <= 20_000


def test_an_entry_too_large_for_the_limit_is_not_kept(cache_folder: Path) -> None:
    cache = Cache(cache_folder, 1_000)
    cache.write(KEY, bytes(900))
    assert cache.entries() == []


def test_what_a_killed_process_left_is_removed(cache: Cache) -> None:
    cache.write(KEY, CONTENT)
    old, new = (cache.folder / f"{OTHER}.{digit * 16}.tmp" for digit in "ab")
    for path in (old, new):
        path.write_bytes(CONTENT)
    os.utime(old, (0, 0))
    Cache(cache.folder, LIMIT).write(OTHER, CONTENT)
    assert not old.exists()
    assert new.exists()  # somebody may be writing it


def test_clear_removes_our_files_only(cache: Cache) -> None:
    cache.write(KEY, CONTENT)
    (cache.folder / "letter.txt").write_text("dear cache")
    assert cache.clear() == 1
    assert [path.name for path in cache.folder.iterdir()] == ["letter.txt"]


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path))
    assert directory() == tmp_path
    for off in ("0", "off", "OFF"):
        monkeypatch.setenv("GRAPHFLOW_CACHE", off)
        assert directory() is None
    monkeypatch.delenv("GRAPHFLOW_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert directory() == tmp_path / "graphflow"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert directory() == Path.home() / ".cache" / "graphflow"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert directory() == Path.home() / "Library" / "Caches" / "graphflow"


@pytest.mark.usefixtures("unchecked")
def test_options_are_in_the_key_and_places_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = digest_of("program")
    monkeypatch.setenv("GRAPHFLOW_CACHE", "elsewhere")
    monkeypatch.setenv("GRAPHFLOW_NUM_THREADS", "3")
    assert digest_of("program") == plain
    monkeypatch.setenv("GRAPHFLOW_CHECK", "2")
    assert digest_of("program") != plain


WRITER = """
import sys
from pathlib import Path
from graphflow.compiler.cache import Cache

cache = Cache(Path(sys.argv[1]), 10**9)
print("ready", flush=True)
while True:
    for n in range(4):
        cache.write(f"{n:064x}", bytes([n]) * 1_000_000)
"""


def writer(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill_in_mid_write(folder: Path, times: int) -> None:
    """Kill a process that does nothing but write, `times` times, a little later each time."""
    cache, seen = Cache(folder, 10**9), 0
    for turn in range(times):
        process = writer(folder)
        while turn == 0 and not any(ENTRY.fullmatch(p.name) for p in folder.glob("*")):
            time.sleep(0.001)  # the first one lives until it has written something
        time.sleep(0.0007 * (turn % 30))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for n in range(4):
            start = time.monotonic()
            content = cache.read(f"{n:064x}")
            assert time.monotonic() - start < 1  # no lock is left behind
            assert content in (None, bytes([n]) * 1_000_000)
            seen += content is not None
    assert seen
    assert cache_module.STATISTICS.rejected == 0
    assert all(ENTRY.fullmatch(p.name) or p.suffix == ".tmp" for p in folder.iterdir())


@posix
def test_killed_in_mid_write(cache_folder: Path) -> None:
    kill_in_mid_write(cache_folder, 6)


@posix
@pytest.mark.soak
def test_killed_in_mid_write_200_times(cache_folder: Path) -> None:
    kill_in_mid_write(cache_folder, 200)
