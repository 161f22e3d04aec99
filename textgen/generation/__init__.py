"""Logits to text: samplers, constraints, decoding, beam search, infilling."""
