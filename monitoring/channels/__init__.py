"""Where alerts go: one module a channel, each with `configured()` and `send(notice)`."""
