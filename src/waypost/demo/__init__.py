"""The demonstration: a whole set-up in one process, a tour of messages through it, and what became of each."""
