"""Graph in, program out: the passes, the loop compiler and the LLVM back end.  Start at `pipeline.py`."""
