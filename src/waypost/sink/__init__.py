"""A test server: it keeps what it gets and misbehaves on request. Behind `waypost sink`, and in `waypost demo`."""
