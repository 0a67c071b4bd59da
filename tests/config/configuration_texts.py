"""Texts that several tests begin with."""

SMALL = """\
listeners: [{address: "127.0.0.1:2525", mode: relay}]
upstreams: {a: {address: "a.example.com:25"}}
routes: {all: {primary: a}}
"""
