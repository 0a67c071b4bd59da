"""Programs in Go, compiled with Debian's packages and without a network."""

import os
import subprocess
from pathlib import Path

import pytest

from rig.programs import lacking, require

_SOURCES = Path("/usr/share/gocode")
_NEEDED = {
    "github.com/hashicorp/go-plugin": "golang-github-hashicorp-go-plugin-dev",
    "google.golang.org/grpc": "golang-google-grpc-dev",  # which go-plugin imports, and its package does not require
}


def build(source: Path, program: Path) -> Path:
    """Compiles one file. Skips the test, or fails it in CI, where Go or a package of its sources is not installed."""
    go = require("go")
    for folder, package in _NEEDED.items():
        if not (_SOURCES / "src" / folder).is_dir():
            lacking(f"{package} is not installed")
    environment = {"GO111MODULE": "off", "GOPATH": str(_SOURCES), "GOFLAGS": "", "CGO_ENABLED": "0"}
    built = subprocess.run(
        [go, "build", "-o", str(program), str(source)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if built.returncode:
        pytest.fail(f"{source} does not compile:\n{built.stderr}", pytrace=False)
    return program
