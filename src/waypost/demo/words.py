"""What the demonstration says around its table: who takes part, and what to type."""

from collections.abc import Mapping

from waypost.demo.stage import BUSY, NOBODY, PASSWORD, RELAY, SPAM, SUBMISSION, USERNAME


def cast(ports: Mapping[str, int]) -> str:
    """Who takes part, and where Waypost listens."""
    return (
        "Waypost in front of two providers and of an old and a new mail server:\n"
        "\n"
        f"  your applications --> 127.0.0.1:{ports[SUBMISSION]:<5} --> provider-a, else provider-b\n"
        f"  your mail server  --> 127.0.0.1:{ports[RELAY]:<5} --> old, and a copy to new\n"
        "\n"
    )


def invitation(ports: Mapping[str, int]) -> str:
    """What to type in another terminal. Commands are not indented, so that they can be copied as they are."""
    port = ports[SUBMISSION]
    address = f"127.0.0.1:{port}"
    return f"""
Now you. In another terminal, any of these:

swaks --server {address} --auth PLAIN --auth-user {USERNAME} \\
  --auth-password {PASSWORD} --from me@example.com --to you@example.net

printf 'Subject: hello\\r\\n\\r\\nfrom curl\\r\\n' | curl -sS smtp://{address} \\
  --user {USERNAME}:{PASSWORD} --mail-from me@example.com \\
  --mail-rcpt you@example.net --upload-file -

python3 -c 'import smtplib; s = smtplib.SMTP("127.0.0.1", {port})
s.login("{USERNAME}", "{PASSWORD}")
s.sendmail("me@example.com", "you@example.net", "Subject: hello\\n\\nhi")'

Write to {BUSY} and provider-a is too busy, to {SPAM} and it
refuses for good. Port {ports[RELAY]} takes mail without a password, for old and new;
{NOBODY} does not exist there.

What arrives is shown here. Ctrl-C ends it.

"""
