#!/usr/bin/env python3
"""Make the digits that ship inside graphflow from the four original MNIST files.

usage: python scripts/make_mnist.py SOURCE [TARGET]      e.g. python scripts/make_mnist.py ../shared/data/mnist

The first 10,000 training and 2,000 test images are cut out and written in the format of the originals, so that one
reader serves both. The output depends on the input (and on the zlib in use) alone: no time stamps, no file names.
"""

import argparse
import gzip
import struct
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from graphflow.data import mnist

KEPT = {mnist.TRAIN_FILES: 10_000, mnist.TEST_FILES: 2_000}


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """`array` as an IDX file: 0, 0, type code 8 (unsigned byte), the number of axes, the sizes, the bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def source_file(folder: Path, name: str) -> Path:
    """The original called `name`, plain if it is there, else gzipped."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the embedded digits from the four original MNIST files.")
    parser.add_argument("source", type=Path, help="folder of the four IDX files, plain or gzipped")
    parser.add_argument(
        "target", type=Path, nargs="?", default=mnist.EMBEDDED, help="folder to write (default: the package)"
    )
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True, exist_ok=True)
    for (images, labels), count in KEPT.items():
        for name, item_shape in ((images, (mnist.SIDE, mnist.SIDE)), (labels, ())):
            items = mnist.read_idx(source_file(arguments.source, name), item_shape)[:count]
            packed = gzip.compress(idx_bytes(items), compresslevel=9, mtime=0)
            (arguments.target / f"{name}.gz").write_bytes(packed)
            print(f"{name}.gz: {len(items):,} items, {len(packed):,} bytes")


if __name__ == "__main__":
    main()
