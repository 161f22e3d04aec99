"""The recurrent network: Keras layers, the whole network in TensorFlow and in NumPy, and a reference to learn from."""
