"""What is in a file of each format, as text: records, tables, documents with layout, compressed files."""
