"""Optimizers and the global step (`tf.train`)."""

from graphflow.train.adam import AdamOptimizer
from graphflow.train.global_step import create_global_step, get_global_step, get_or_create_global_step, global_step
from graphflow.train.gradient_descent import GradientDescentOptimizer
from graphflow.train.momentum import MomentumOptimizer
from graphflow.train.optimizer import Optimizer

__all__ = [
    "AdamOptimizer",
    "GradientDescentOptimizer",
    "MomentumOptimizer",
    "Optimizer",
    "create_global_step",
    "get_global_step",
    "get_or_create_global_step",
    "global_step",
]
