"""The benchmark: `smtp-source` through one mail system after another into counting sinks. See README.md here."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""Where the parts that are processes of their own (`python -m bench.sink`) find this package."""
