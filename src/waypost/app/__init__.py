"""The composition root of the mail server: makes the parts, joins them, starts and stops them.

The only package, with the commands, that knows every class. What it does not do is decide about mail.
"""

from waypost.app.server import Server, instance_of

__all__ = ["Server", "instance_of"]
