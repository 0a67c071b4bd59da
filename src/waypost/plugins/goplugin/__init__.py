"""Go plugins that were built for smtpmux, run as they are: hashicorp/go-plugin over net/rpc.

`handshake` reads the line with which such a program introduces itself, `yamux` divides its socket into streams, `gob`
is Go's encoding of values, `netrpc` the calls that are made with it: four small formats, each in a module without
input or output. `contract` is what smtpmux asks its selectors; `host` runs one.
"""
