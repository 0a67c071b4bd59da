"""The benchmark: `smtp-source` through one mail system after another into counting sinks. See README.md here."""
