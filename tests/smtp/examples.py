"""How many examples the property tests try, and the octets they try.

`EXAMPLES=20 pytest tests/smtp` tries twenty times as many, for a night or a release.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from smtp.serving import cut

SCALE = int(os.environ.get("EXAMPLES", "1"))


def examples(count: int) -> settings:
    """Settings for a test with `count` examples. No deadline: the machine may be busy."""
    return settings(max_examples=count * SCALE, deadline=None, suppress_health_check=[HealthCheck.too_slow])


_CLIENT_SAYS = [
    b"EHLO c.example\r\n", b"HELO c.example\r\n", b"MAIL FROM:<a@example.com>\r\n", b"MAIL FROM:<>\r\n",
    b"MAIL FROM:<a@example.com> SIZE=99999999999\r\n", "MAIL FROM:<ü@example.com> SMTPUTF8\r\n".encode(),
    b"RCPT TO:<b@example.org>\r\n", b"RCPT TO:<c@example.org>\r\n", b"RCPT TO:<d@example.org> NOTIFY=NEVER\r\n",
    "RCPT TO:<ü@example.org>\r\n".encode(), b"RCPT TO:<>\r\n", b"DATA\r\n", b"\r\n.\r\n", b".\r\n", b"RSET\r\n",
    b"BDAT 5\r\n", b"BDAT 0\r\n", b"BDAT 0 LAST\r\n", b"BDAT 7 LAST\r\n", b"BDAT x\r\n", b"hello", b"\r\n..\r\n",
    b"NOOP\r\n", b"QUIT\r\n", b"STARTTLS\r\n", b"VRFY b\r\n", b"EXPN l\r\n", b"HELP\r\n", b"AUTH PLAIN\r\n",
    b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n", b"AUTH LOGIN\r\n", b"YW5u\r\n", b"c2VjcmV0\r\n", b"*\r\n", b"=\r\n",
    b"AUTH EXTERNAL\r\n", b"AUTH EXTERNAL =\r\n", b"AUTH SCRAM-SHA-256\r\n", b"AUTH SCRAM-SHA-256 biwsbj1hLHI9Yg==\r\n",
    b"biwsbj1hLHI9Yg==\r\n", b"Yz1iaXdzLHI9YixwPVgxPT0=\r\n",
    b"\r\n", b"\r", b"\n", b"\0", b".", b" ", b"\xff", b"x" * 600, b"XYZZY\r\n", b"Subject: hello\r\n\r\ntext\r\n",
    b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", b"BDAT 3\r\na\nb", b"BDAT 4 LAST\r\n.\r\n.",
]  # fmt: skip

said_by_clients = st.lists(st.one_of(st.sampled_from(_CLIENT_SAYS), st.binary(max_size=6)), max_size=30).map(b"".join)
"""Octets of a client that knows the words and not always their order."""

_SERVER_SAYS = [
    b"220 mx.example.org\r\n", b"250 OK\r\n", b"250-mx.example.org\r\n", b"250-PIPELINING\r\n", b"250-SIZE 1000\r\n",
    b"250 AUTH PLAIN LOGIN\r\n", b"250-SIZE x\r\n", b"354 go on\r\n", b"334 \r\n", b"421 bye\r\n",
    b"450 4.2.0 later\r\n", b"550 5.1.1 no\r\n", b"550-5.1.1 no\r\n", b"221 bye\r\n",
    b"250\r\n", b"250", b"\r\n", b"\n", b"\r", b"-", b" ",
    b"150 no\r\n", b"650 no\r\n", b"\xff\0", b"x" * 5000,
]  # fmt: skip

said_by_servers = st.lists(st.one_of(st.sampled_from(_SERVER_SAYS), st.binary(max_size=6)), max_size=30).map(b"".join)
"""Octets of an upstream that may be broken, or hostile."""

content = st.lists(
    st.one_of(
        st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"..", b"a", b"\r\n.", b"\r\n.\r\n"]), st.binary(max_size=3)
    ),
    max_size=20,
).map(b"".join)
"""Content of which much is line ends and dots."""

clean_content = content.map(lambda data: data.replace(b"\r\n", b"\n").replace(b"\r", b"")).map(
    lambda data: data.replace(b"\0", b"").replace(b"\n", b"\r\n")
)
"""The same with every line end CRLF, and without NUL: what may be passed on."""


@st.composite
def pieces_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces: one octet each, or cut anywhere."""
    if draw(st.booleans()):
        return [data[at : at + 1] for at in range(len(data))]
    return cut(data, draw(st.lists(st.integers(0, max(1, len(data))), max_size=12)))


@st.composite
def in_pieces(draw: st.DrawFn, octets: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Octets, and the same in pieces."""
    data = draw(octets)
    return data, draw(pieces_of(data))
