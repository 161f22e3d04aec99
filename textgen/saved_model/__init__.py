"""Saved models: the files of a model folder, their checks, the registry and the model card."""
