"""From corpus, machine and budget to all settings of a run: start, vocabulary, network, training, estimates."""
