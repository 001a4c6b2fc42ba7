"""What other rooms may listen to."""

from django.dispatch import Signal

# A death was stored: `dead_letter` is a new letter, or one that died again under replay. Sent after the commit, in a background
# thread of the worker's main process: a receiver may take its time, and what it raises is logged and goes no further.
dead_letter_opened = Signal()
