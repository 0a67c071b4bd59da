"""The admin address: health checks and metrics over HTTP."""
