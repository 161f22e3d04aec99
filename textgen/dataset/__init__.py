"""Documents to token ids on disk, and ids to batches for truncated backpropagation through time."""
