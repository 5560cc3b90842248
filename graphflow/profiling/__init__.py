"""What a program's time goes into: `with tf.profile("trace.json") as p:` (docs/profiling.md)."""

from graphflow.profiling.profile import Profile, profile

__all__ = ["Profile", "profile"]
