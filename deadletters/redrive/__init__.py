"""A replay of many as an object: claimed in slices, sent in bulk, paused and stopped."""
