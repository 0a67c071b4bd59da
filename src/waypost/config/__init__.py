"""Configuration: the schema, where values come from, and the old formats. Read once, handed out as plain values."""
