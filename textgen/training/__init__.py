"""From a corpus to a saved model: plan, training loop, optimizers, distribution."""
