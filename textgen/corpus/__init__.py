"""Files, folders and streams of text, read as documents."""
