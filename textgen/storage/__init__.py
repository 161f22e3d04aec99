"""Files on disk and elsewhere: atomic writes, locks, temporary and cached files, remote addresses."""
