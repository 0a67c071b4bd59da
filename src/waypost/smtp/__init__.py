"""The SMTP protocol, both sides, without input or output.

Bytes in, events out. Nothing here opens a socket, reads a clock or writes a log; a test reads the imports.

* `address`, `reply`, `parameters`, `commands`: the values that travel.
* `wire`: one parser and one encoder for command lines; the encoder cannot emit a line break.
* `buffer`, `content`: lines and content, cut out of a stream of octets.
* `state`: the table that both sides obey.
* `server`, `client`: the two roles over that table.
* `sasl`: the AUTH mechanisms.
"""
