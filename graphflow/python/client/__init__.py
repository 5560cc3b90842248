"""What TensorFlow has for those who run graphs."""
