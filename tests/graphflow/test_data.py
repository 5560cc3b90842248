"""The digits that ship with graphflow, reading the original files, and what is said about bad ones."""

import contextlib
import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.data import mnist

IMAGES, LABELS = mnist.TRAIN_FILES


def idx(array: np.ndarray, *, code: int = 8) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def write_set(folder: Path, count: int = 3, *, suffix: str = "") -> dict[str, Path]:
    """Four small, valid files."""
    pack = gzip.compress if suffix == ".gz" else bytes
    rng = np.random.default_rng(0)
    paths = {}
    for images, labels in (mnist.TRAIN_FILES, mnist.TEST_FILES):
        for name, array in (
            (images, rng.integers(0, 256, (count, 28, 28), np.uint8)),
            (labels, np.arange(count, dtype=np.uint8)),
        ):
            paths[name] = folder / (name + suffix)
            paths[name].write_bytes(pack(idx(array)))
    return paths


@pytest.fixture(scope="module")
def embedded() -> mnist.Mnist:
    return mnist.load()


def test_embedded_digits_have_the_promised_sizes_and_types(embedded: mnist.Mnist) -> None:
    for digits, count in ((embedded.train, 10_000), (embedded.test, 2_000)):
        assert digits.images.shape == (count, 28, 28, 1)
        assert digits.images.dtype == np.float32
        assert digits.images.min() == 0
        assert digits.images.max() == 1
        assert digits.labels.shape == (count,)
        assert digits.labels.dtype == np.int64
        assert set(digits.labels) == set(range(10))


def test_embedded_digits_begin_as_mnist_does(embedded: mnist.Mnist) -> None:
    assert embedded.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert embedded.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_attribution_names_authors_and_licence(embedded: mnist.Mnist) -> None:
    for text in (embedded.attribution, (mnist.EMBEDDED / "ATTRIBUTION.md").read_text("utf-8")):
        assert all(word in text for word in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0"))


def test_embedded_digits_stay_small() -> None:
    assert sum(path.stat().st_size for path in mnist.EMBEDDED.iterdir()) < 3_000_000


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_load_reads_plain_and_gzipped_files(tmp_path: Path, suffix: str) -> None:
    write_set(tmp_path, count=4, suffix=suffix)
    digits = mnist.load(tmp_path)
    assert digits.train.labels.tolist() == [0, 1, 2, 3]
    assert digits.test.images.shape == (4, 28, 28, 1)


def test_pixels_are_scaled_to_one(tmp_path: Path) -> None:
    paths = write_set(tmp_path, count=1)
    paths[IMAGES].write_bytes(idx(np.full((1, 28, 28), 51, np.uint8)))
    assert mnist.load(tmp_path).train.images[0, 0, 0, 0] == np.float32(0.2)


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    paths = write_set(tmp_path)
    paths[IMAGES].unlink()
    paths[LABELS].unlink()
    with pytest.raises(FileNotFoundError) as error:
        mnist.load(tmp_path)
    assert IMAGES in str(error.value)
    assert LABELS in str(error.value)
    assert mnist.TEST_FILES[0] not in str(error.value)


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such directory.*nowhere"):
        mnist.load(tmp_path / "nowhere")


PIXELS = np.zeros((2, 28, 28), np.uint8)
BAD_IMAGES = {
    "empty": (b"", "0 bytes, too short"),
    "wrong magic": (idx(PIXELS, code=9), "magic number 0x00000903, expected 0x00000803"),
    "labels for images": (idx(np.zeros(2, np.uint8)), "magic number 0x00000801"),
    "half a header": (idx(PIXELS)[:7], "truncated in its header"),
    "other size": (idx(np.zeros((2, 32, 32), np.uint8)), r"items of shape \[32, 32\], expected \[28, 28\]"),
    "truncated": (idx(PIXELS)[:-1], "truncated: the header claims 1,568 bytes, the file holds 1,567"),
    "too long": (idx(PIXELS) + b"x", "holds more than the 1,568 bytes"),
    "claims 4 G images": (struct.pack(">IIII", 0x803, 2**32 - 1, 28, 28) + b"abc", "the file holds 3"),
    "count mismatch": (idx(PIXELS), "holds 2 images but .* holds 3 labels"),
    "cut gzip": (gzip.compress(idx(PIXELS))[:-12], "damaged gzip"),
    "spoilt gzip": (b"\x1f\x8b\x08\x00" + b"\xff" * 40, "damaged gzip"),
}


@pytest.mark.parametrize("content, message", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_bad_image_file_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    paths = write_set(tmp_path)
    paths[IMAGES].write_bytes(content)
    with pytest.raises(mnist.DataError, match=message) as error:
        mnist.load(tmp_path)
    assert IMAGES in str(error.value)


def test_label_that_is_no_digit_is_refused(tmp_path: Path) -> None:
    paths = write_set(tmp_path)
    paths[LABELS].write_bytes(idx(np.array([1, 2, 10], np.uint8)))
    with pytest.raises(mnist.DataError, match="label 10 is not a digit"):
        mnist.load(tmp_path)


@given(content=st.binary(max_size=64), gzipped=st.booleans())
def test_any_bytes_give_an_array_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, gzipped: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything"
    path.write_bytes(gzip.compress(content) if gzipped else content)
    with contextlib.suppress(mnist.DataError):
        assert mnist.read_idx(path, ()).ndim == 1


def test_script_cuts_the_same_bytes_every_time(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parent.parent.parent / "scripts" / "make_mnist.py"
    source = tmp_path / "source"
    source.mkdir()
    write_set(source, count=5)
    for target in ("first", "second"):
        subprocess.run([sys.executable, script, source, tmp_path / target], check=True, stdout=subprocess.DEVNULL)
    made = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()}
    assert len(mnist.load(tmp_path / "first").train) == 5


def numbered(count: int) -> mnist.Digits:
    images = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 28, 28, 1))
    return mnist.Digits(images, np.arange(count, dtype=np.int64))


def test_batches_hold_every_image_once_and_keep_the_last_partial_batch() -> None:
    batches = list(numbered(10).batches(4, seed=0, epoch=0))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert sorted(np.concatenate([labels for _, labels in batches])) == list(range(10))
    for images, labels in batches:
        assert np.array_equal(images[:, 0, 0, 0], labels)


def order(seed: int, epoch: int) -> list[int]:
    return [int(label) for _, labels in numbered(50).batches(50, seed=seed, epoch=epoch) for label in labels]


def test_seed_and_epoch_decide_the_order() -> None:
    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_chunks_keep_the_order() -> None:
    chunks = [labels.tolist() for _, labels in numbered(5).chunks(2)]
    assert chunks == [[0, 1], [2, 3], [4]]


def test_batch_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image, not 0"):
        next(numbered(5).batches(0, seed=0, epoch=0))
    with pytest.raises(ValueError, match="at least one image, not -1"):
        next(numbered(5).chunks(-1))
