"""The benchmark is no part of the installed package: it is found beside `src`."""

import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
# The sink and the latency client are processes of their own (`python -m bench.sink`).
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH", ""))))
