"""Handwritten digits: load them, look at them, iterate over shuffled batches.

    digits = load()                                     # 10,000 training and 2,000 test images that ship with graphflow
    digits = load("path/to/the/four/idx/files")         # the full set: 60,000 and 10,000; plain or gzipped
    for images, labels in digits.train.batches(32, seed=1, epoch=0):
        ...                                             # float32[32, 28, 28, 1] in 0..1 and int64[32]

The file format (IDX: magic number, big-endian sizes, bytes) is described by its authors at http://yann.lecun.com/exdb/mnist/.
Sizes in a header are claims: nothing is allocated from them, and a file must hold exactly as many bytes as it claims.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

ATTRIBUTION = (
    "MNIST database of handwritten digits, by Yann LeCun, Corinna Cortes and Christopher J. C. Burges; "
    "Creative Commons Attribution-ShareAlike 3.0 (CC BY-SA 3.0)."
)
EMBEDDED = Path(__file__).parent / "digits"
TRAIN_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST_FILES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SIDE = 28
CLASSES = 10

_CHUNK = 1 << 20
_UNSIGNED_BYTE = 0x08  # the IDX type code of every MNIST file


class DataError(ValueError):
    """A data file does not hold what it should; the message names the file."""


@dataclass(frozen=True)
class Digits:
    """Images float32[n, 28, 28, 1] in 0..1 and their labels int64[n] in 0..9."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, *, seed: int, epoch: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Every image once, in an order that only (seed, epoch) decides; the last batch may be smaller than `size`."""
        if size < 1:
            raise ValueError(f"a batch holds at least one image, not {size}")
        order = np.random.default_rng((seed, epoch)).permutation(len(self))
        for start in range(0, len(self), size):
            chosen = order[start : start + size]
            yield self.images[chosen], self.labels[chosen]

    def chunks(self, size: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Every image once, in the order of the file, at most `size` at a time: what an evaluation reads."""
        if size < 1:
            raise ValueError(f"a chunk holds at least one image, not {size}")
        for start in range(0, len(self), size):
            yield self.images[start : start + size], self.labels[start : start + size]


@dataclass(frozen=True)
class Mnist:
    """The training and the test digits, and whom to thank for them."""

    train: Digits
    test: Digits
    attribution: str = ATTRIBUTION


def load(directory: str | Path | None = None) -> Mnist:
    """The digits in `directory` (four IDX files, plain or `.gz`), or those that ship with graphflow.

    Raises FileNotFoundError, naming every file that is missing, and DataError for a file that is not what it should be.
    """
    folder = EMBEDDED if directory is None else Path(directory)
    paths = _find(folder, TRAIN_FILES + TEST_FILES)
    return Mnist(
        train=_digits(*(paths[name] for name in TRAIN_FILES)),
        test=_digits(*(paths[name] for name in TEST_FILES)),
    )


def read_idx(path: Path, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The uint8[n, *item_shape] array of an IDX file, plain or gzipped (told by its first bytes, not by its name)."""
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not gzipped:
                return _parse(raw, path, item_shape)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _parse(stream, path, item_shape)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from error


def _find(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Where each file is: `name` if it is there, else `name.gz`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such directory: {folder}")
    found = {name: path for name in names for path in (folder / f"{name}.gz", folder / name) if path.is_file()}
    missing = [name for name in names if name not in found]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)} (each may be plain or .gz)")
    return found


def _digits(images_path: Path, labels_path: Path) -> Digits:
    pixels = read_idx(images_path, (SIDE, SIDE))
    labels = read_idx(labels_path, ())
    if len(pixels) != len(labels):
        raise DataError(f"{images_path} holds {len(pixels)} images but {labels_path} holds {len(labels)} labels")
    if labels.max(initial=0) >= CLASSES:
        raise DataError(f"{labels_path}: label {labels.max()} is not a digit")
    images = pixels.astype(np.float32)
    images /= 255.0
    return Digits(images[..., np.newaxis], labels.astype(np.int64))


def _parse(stream: BinaryIO | gzip.GzipFile, path: Path, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    ndim = 1 + len(item_shape)
    header = stream.read(4 + 4 * ndim)
    wanted = _UNSIGNED_BYTE << 8 | ndim
    if len(header) < 4:
        raise DataError(f"{path}: {len(header)} bytes, too short for an IDX file")
    (magic,) = struct.unpack_from(">I", header)
    if magic != wanted:
        raise DataError(f"{path}: magic number {magic:#010x}, expected {wanted:#010x}")
    if len(header) < 4 + 4 * ndim:
        raise DataError(f"{path}: truncated in its header")
    shape = struct.unpack_from(f">{ndim}I", header, 4)
    if shape[1:] != item_shape:
        raise DataError(f"{path}: items of shape {list(shape[1:])}, expected {list(item_shape)}")
    return _read_exactly(stream, math.prod(shape), path).reshape(shape)


def _read_exactly(stream: BinaryIO | gzip.GzipFile, size: int, path: Path) -> NDArray[np.uint8]:
    """`size` bytes and then the end of the file; memory grows with what is there, never with what was claimed."""
    content = bytearray()
    while len(content) < size:
        chunk = stream.read(min(_CHUNK, size - len(content)))
        if not chunk:
            raise DataError(f"{path}: truncated: the header claims {size:,} bytes, the file holds {len(content):,}")
        content += chunk
    if stream.read(1):
        raise DataError(f"{path}: the file holds more than the {size:,} bytes that its header claims")
    return np.frombuffer(content, np.uint8)
