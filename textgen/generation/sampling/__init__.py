"""Logits to the next token: filters, penalties, the chain of samplers and the draw."""
