"""Waypost: one SMTP endpoint in front of all your mail servers. It routes, and it duplicates."""

__version__ = "0.1.0"
