"""`AdamOptimizer` (Kingma & Ba 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.control_ops import group
from graphflow.core.op import OPS
from graphflow.framework.tensor import Operation, Tensor
from graphflow.framework.variables import Variable
from graphflow.math_ops import cast
from graphflow.train.optimizer import Optimizer

__all__ = ["AdamOptimizer"]


class AdamOptimizer(Optimizer):
    """Steps scaled by running means of the gradient and of its square.

    rate = learning_rate * sqrt(1 - beta2^t) / (1 - beta1^t); variable -= rate * m / (sqrt(v) + epsilon), which is
    the paper's form with "epsilon hat".
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon

    def _create_slots(self, variables: Sequence[Variable]) -> None:
        first = min(variables, key=lambda v: v.name)
        beta1, beta2 = (b() if callable(b) else b for b in (self._beta1, self._beta2))
        self._power1 = self._shared_variable(beta1, "beta1_power", first)
        self._power2 = self._shared_variable(beta2, "beta2_power", first)
        for v in variables:
            self._zeros_slot(v, "m", self._name)
            self._zeros_slot(v, "v", self._name)

    def _apply(self, grad: Tensor, variable: Variable) -> Tensor:
        dtype = variable.dtype
        return OPS["ApplyAdam"](  # type: ignore[no-any-return]
            variable._ref,
            *(self._zeros_slot(variable, slot, self._name)._ref for slot in ("m", "v")),
            cast(self._power1.value(), dtype),
            cast(self._power2.value(), dtype),
            self._hyper("learning_rate", self._learning_rate, dtype),
            self._hyper("beta1", self._beta1, dtype),
            self._hyper("beta2", self._beta2, dtype),
            self._hyper("epsilon", self._epsilon, dtype),
            grad,
            name="ApplyAdam",
        )

    def _finish(self, updates: list[Tensor], name: str) -> Operation:
        """The powers of the betas move on after all variables have used them."""
        powers = (self._power1, "beta1", self._beta1), (self._power2, "beta2", self._beta2)
        moved = []
        for power, beta_name, beta in powers:
            factor = self._hyper(beta_name, beta, power.dtype)
            with power.graph.control_dependencies(updates):
                moved.append(power.assign(OPS["Mul"](power.value(), factor, name="mul")))
        return group(*updates, *moved, name=name)
