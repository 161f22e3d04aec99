"""The text from which the tokenizer of the tests is trained."""

LINES = "The cat sat on the mat.\nThe dog saw the cat, and the cat saw the dog.\n床前明月光，疑是地上霜。\n"
