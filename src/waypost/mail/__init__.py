"""Mail as a value: who sent what to whom, and what became of it. No input or output, no clock."""
