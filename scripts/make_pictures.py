"""Draw the pictures of the documentation into docs/images: `python scripts/make_pictures.py`."""

from pathlib import Path

import graphflow as tf
from graphflow.demo import mlp

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def main() -> None:
    """mlp.svg: the kernels that compute the loss of the demo's first network."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default():
        tf.show(mlp.build().loss, IMAGES / "mlp.svg", view="kernels")


if __name__ == "__main__":
    main()
