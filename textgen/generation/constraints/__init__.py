"""What a text must and must not hold: banned and required texts, biases, n-grams, copies, words that exist."""
