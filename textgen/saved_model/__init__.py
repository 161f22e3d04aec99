"""A folder that holds a trained model: its files, checks, registry and model card."""
