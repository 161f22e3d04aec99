"""Observers of a training run: progress display, TensorBoard, profiler, Keras callbacks."""
