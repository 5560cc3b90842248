"""Contractions as SIMD kernels: matrix products, convolutions and both gradients of a convolution.

    code = emit_contraction(module, "dot", Contraction(...), host_target(), size, epilogue)        # emit.py

| what | file |
|---|---|
| what is computed: values only | `contraction.py` |
| how it is cut: values only | `plan.py` |
| which plan pays | `choose.py`, with `choose_*.py` for special forms; `shape.py` for the tile |
| the loops over k | `k_loops.py` |
| the register tile | `tile.py`; where k lies side by side `dot.py`; few rows `sweep.py`; tiny products `inline.py` |
| copies that a tile reads faster | `pack.py` (B), `stage.py` (A) |
| the loops around the tiles | `units.py`, `walk.py` |
| what happens to results | `finish.py`, `stream.py` |
| a level-2 kernel as a contraction | `kernel.py` |
"""
