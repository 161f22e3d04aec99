"""Reading files, folders and streams of text as documents."""
