"""A tokenizer and a network whose scores are known."""

from __future__ import annotations

from textgen.model.config import ModelConfig
from textgen.tokenizer.kinds import ByteTokenizer

TOKENIZER = ByteTokenizer()
CONFIG = ModelConfig(TOKENIZER.vocab_size, embedding_dim=6, hidden_units=8, num_layers=2)
