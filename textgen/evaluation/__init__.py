"""How well a model predicts a text: scores, caches, embeddings, anomalies."""
