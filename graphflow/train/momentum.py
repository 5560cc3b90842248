"""`MomentumOptimizer`: gradients are accumulated with a decay, and the accumulator moves the variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.core.op import OPS
from graphflow.framework.tensor import Tensor
from graphflow.framework.variables import Variable
from graphflow.train.optimizer import Optimizer

__all__ = ["MomentumOptimizer"]


class MomentumOptimizer(Optimizer):
    """accumulator = momentum * accumulator + gradient; variable -= learning_rate * accumulator.

    With use_nesterov the variable moves by learning_rate * (gradient + momentum * accumulator) (Sutskever et al. 2013).
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate, self._momentum, self._use_nesterov = learning_rate, momentum, use_nesterov

    def _create_slots(self, variables: Sequence[Variable]) -> None:
        for v in variables:
            self._zeros_slot(v, "momentum", self._name)

    def _apply(self, grad: Tensor, variable: Variable) -> Tensor:
        dtype = variable.dtype
        accumulator = self._zeros_slot(variable, "momentum", self._name)
        return OPS["ApplyMomentum"](  # type: ignore[no-any-return]
            variable._ref,
            accumulator._ref,
            self._hyper("learning_rate", self._learning_rate, dtype),
            self._hyper("momentum", self._momentum, dtype),
            grad,
            use_nesterov=bool(self._use_nesterov),
            name="ApplyMomentum",
        )
