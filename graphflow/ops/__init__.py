"""Every op, declared once; importing this package fills `graphflow.core.op.OPS`."""

from graphflow.ops import (  # noqa: F401
    contract,
    convolve,
    elementwise,
    gradient,
    leaf,
    nn,
    pool,
    random,
    reduce,
    shape,
    state,
    view,
    window,
)
