"""HTTP around generators: `textgen serve`."""
