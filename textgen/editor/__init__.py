"""The full-screen editor of `textgen write`, for writing a text together with a model."""
