"""The layers that the language model is stacked from."""
