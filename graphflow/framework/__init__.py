"""What a person declares with: graphs, operations, tensors, scopes, variables, gradients.

Importing it declares all ops and tells them how to add to a graph.
"""

import graphflow.ops
import graphflow.framework.create  # noqa: F401  (ops call it)
