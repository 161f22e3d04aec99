"""What a network does with a text: cells, gates, memory, gradients."""
