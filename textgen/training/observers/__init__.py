"""What watches a training run: progress line, TensorBoard, profiler, Keras callbacks."""
