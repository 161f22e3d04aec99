"""Writing a text together with a model in the terminal."""
