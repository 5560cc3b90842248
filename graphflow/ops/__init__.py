"""Every op, declared once; importing this package fills `graphflow.core.op.OPS`."""

from graphflow.ops import (  # noqa: F401
    elementwise,
    leaf,
    view,
    reduce,
    contract,
    pool,
    shape,
    nn,
    state,
    random,
    gradient,
)
