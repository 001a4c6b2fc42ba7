"""How a death becomes a letter: in the worker, and from what a lost worker left."""
