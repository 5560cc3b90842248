"""`graphflow demo`: two small networks learn handwritten digits. Read mlp.py first, then cnn.py, then run.py."""
