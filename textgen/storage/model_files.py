"""Names by which a folder of a saved model is known, so that those who look for text pass over it."""

CONFIG = "config.json"  # beside a manifest, marks a saved model: see `textgen.saved_model.layout`
TRAINING = "training.json"  # marks a model that is being trained, if it is a record of textgen
CARD, LOGS, CHECKPOINTS = "README.md", "logs", "checkpoints"  # others in the folder of a model
RECORD_BYTES = 1 << 25  # maximum size of a record
