"""Level 2: scalars and vectors in loops."""
