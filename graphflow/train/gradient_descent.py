"""`GradientDescentOptimizer`: variable -= learning_rate * gradient."""

from __future__ import annotations

from typing import Any

from graphflow.core.op import OPS
from graphflow.framework.tensor import Tensor
from graphflow.framework.variables import Variable
from graphflow.train.optimizer import Optimizer

__all__ = ["GradientDescentOptimizer"]


class GradientDescentOptimizer(Optimizer):
    """Plain gradient descent."""

    def __init__(self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent") -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate

    def _apply(self, grad: Tensor, variable: Variable) -> Tensor:
        rate = self._hyper("learning_rate", self._learning_rate, variable.dtype)
        return OPS["ApplyGradientDescent"](variable._ref, rate, grad, name="ApplyGradientDescent")  # type: ignore[no-any-return]
