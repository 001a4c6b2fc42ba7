"""How a letter goes back to work, one or as many as somebody means: preflight, claim, send, settle."""
