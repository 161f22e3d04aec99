"""Documents -> token ids on disk -> batches for truncated backpropagation through time.

Imports within this folder point one way: config, permutation, windows, token_files -> token_stream, parallel_encoding
-> token_writer -> split -> token_cache, subword_sampling -> prepared_corpus -> corpus_preparation, batches,
bloom_filter -> ngram_index, word_filter.
"""
