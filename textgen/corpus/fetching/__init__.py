"""Well-known corpora: found, downloaded into the cache folder and checked."""
