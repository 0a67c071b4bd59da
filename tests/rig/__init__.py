"""What tests stand on: a storing upstream, a raw client, Waypost as a process, a private Postfix.

None of it uses Waypost's own protocol engine: a fault in the engine would otherwise hide itself.
Every wait is for a condition, and bounded.
"""
