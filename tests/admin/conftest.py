"""A control API for each test that wants one."""

from rig.control import ask, control, parts

__all__ = ["ask", "control", "parts"]
