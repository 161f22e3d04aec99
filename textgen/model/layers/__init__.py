"""Keras layers of the language model."""
