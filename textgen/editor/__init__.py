"""Writing a text together with a model: the full-screen editor of `textgen write`."""
