"""Tests of the protocol engine: tables, properties, a model, dialogues."""
