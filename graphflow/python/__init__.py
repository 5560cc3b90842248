"""TensorFlow's inner modules that programs import by name."""
