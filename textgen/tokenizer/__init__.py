"""Text to tokens and back, with SentencePiece."""
