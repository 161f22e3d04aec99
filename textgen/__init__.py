"""textgen: train a recurrent language model on your own text and write more of it."""

__version__ = "0.1.0"
