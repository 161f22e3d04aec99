"""Documents -> token ids on disk -> batches for truncated backpropagation through time."""
