"""Strategies from outside: programs, scripts and packages that order the upstreams of a pool for a message."""
