"""What a person declares with: graphs, operations, tensors, scopes, variables, gradients.

Importing it declares all ops and tells them how to add to a graph.
"""

import graphflow.framework.create
import graphflow.ops  # noqa: F401  (declares them)
