"""The exceptions, named as TensorFlow 1 names them (`tf.errors.*`) and children of Python's own where users expect it.

OpError
  InvalidArgumentError (ValueError)     a value, shape or name that does not fit
    GraphError                          ... found while the graph was declared
  FailedPreconditionError (RuntimeError)  a variable that was not initialized, a closed session
  NotFoundError (KeyError)              a name that the graph does not have
  ResourceExhaustedError (MemoryError)
  UnimplementedError (NotImplementedError)
  InternalError (RuntimeError)          a bug of graphflow, with the IR around it
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "CancelledError",
    "DataLossError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "GraphError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "OpError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
]


class OpError(Exception):
    """Base of all; `message` is the text, `op` the user's operation where there is one.  TF1's
    `(node_def, op, message)` argument order is accepted too."""

    def __init__(self, *args: Any, op: Any = None) -> None:
        if len(args) == 3:
            _, op, message = args
        else:
            message = args[0] if args else ""
        super().__init__(message)
        self.message: str = message
        self.op = op
        self.node_def = None

    def __str__(self) -> str:
        return self.message


class InvalidArgumentError(OpError, ValueError):
    """A value, shape, dtype or name that does not fit."""


class GraphError(InvalidArgumentError, TypeError):
    """An operation that can't be declared; raised on the user's line."""


class FailedPreconditionError(OpError, RuntimeError):
    """The state is not what the operation needs."""


class NotFoundError(OpError, KeyError):
    """A name that does not exist."""


class ResourceExhaustedError(OpError, MemoryError):
    """Memory, files or another resource ran out."""


class UnimplementedError(OpError, NotImplementedError):
    """Declared in TensorFlow, not (yet) here."""


class InternalError(OpError, RuntimeError):
    """A bug of graphflow; carries the IR around it."""


class OutOfRangeError(OpError, IndexError):
    """The end of a sequence."""


class DeadlineExceededError(OpError, TimeoutError):
    """The run took longer than it was given."""


class PermissionDeniedError(OpError, PermissionError):
    """A file that may not be read or written."""


class AbortedError(OpError):
    """The operation was aborted."""


class AlreadyExistsError(OpError):
    """What was to be made is there already."""


class CancelledError(OpError):
    """The run was cancelled."""


class DataLossError(OpError):
    """A file is damaged."""


class UnauthenticatedError(OpError):
    """No valid credentials."""


class UnavailableError(OpError):
    """Not available at the moment."""


class UnknownError(OpError):
    """Nothing more is known."""
