"""Whatever a client sends, under whatever faults, no session of a sink breaks, and the next client is served."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.client import RawClient
from rig.running_sink import RunningSink
from waypost.sink.faults import Garbage, Phase

LINES = st.sampled_from(
    [
        b"EHLO a.example",
        b"HELO a",
        b"MAIL FROM:<a@b.example>",
        b"MAIL FROM:<> SIZE=99999999999",
        b"RCPT TO:<c@d.example>",
        b"RCPT TO:<c@d.example> NOTIFY=NEVER",
        b"DATA",
        b"text\r\n..stuffed\r\n.",
        b"bare\nline\r\n.",
        b"BDAT 3\r\nab\r",
        b"BDAT 2 LAST\r\nab",
        b"BDAT 0 LAST",
        b"BDAT x",
        b"RSET",
        b"NOOP",
        b"STARTTLS",
        b"AUTH PLAIN AGEAYg==",
        b"AUTH LOGIN",
        b"*",
        b"QUIT",
        b"x" * 20_000,
    ]
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b""])
TALK = st.lists(st.one_of(st.tuples(LINES, ENDS).map(b"".join), st.binary(max_size=40)), max_size=25).map(b"".join)
ANSWERED = [phase for phase in Phase if phase not in (Phase.CONNECT, Phase.CONTENT)]
ACTIONS = [
    *("250", "354", "421 4.3.2 Bye", "451 4.3.0", "550", "close", "close-after", "close-after 451", "delay 0"),
    *(f"garbage {kind}" for kind in Garbage if kind is not Garbage.ENDLESS),
]
RULES = st.builds(
    "{}={} {}".format, st.sampled_from(ANSWERED), st.sampled_from(ACTIONS), st.sampled_from(["", "every:2"])
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(talk=TALK, size=st.integers(1, 2000), rules=st.lists(RULES, max_size=4))
def test_no_session_breaks(talk, size, rules):
    with RunningSink(accounts={"a": "b"}) as sink:
        sink.call(lambda running: running.replace_faults(rules))
        with RawClient(sink.port) as client:
            try:
                for at in range(0, len(talk), size):
                    client.send(talk[at : at + size])
                client.finish_sending()
                while client._receive():
                    pass
            except OSError:
                pass  # the sink has closed before all was sent: so it was ordered, or there were too many errors
        sink.call(lambda running: running.replace_faults([]))
        with RawClient(sink.port) as client:
            client.hello()
            client.command("QUIT", 221)
            client.expect_end()
