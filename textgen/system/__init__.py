"""The machine and the process: cores, memory, child processes, and how TensorFlow is loaded."""
