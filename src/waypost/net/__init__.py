"""Sockets: listeners, sessions, upstream connections and their pool."""
