"""The failover table as data: ordered rules, the first that matches decides.

What success looks like and what an unanswered dot means is not here, but in `classify`: no rule may change it.

Providers say the same things in many ways. A rule by code alone is only written where the code can mean nothing
else; the texts are those of large providers and common servers. Refusals that look like several things are taken for
the harmless one: a recipient's full mailbox must not put an upstream to sleep, and a verdict on content must not
carry the message to the next provider.
"""

from waypost.mail.outcome import Cause, Phase
from waypost.routing.verdict import FailureRule, Kind, ReplyRule, failure_rule, reply_rule

ANYWHERE = frozenset(Phase)
TRANSACTION = frozenset({Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.CONTENT, Phase.DOT})
BEFORE_MAIL = ANYWHERE - TRANSACTION
BEFORE_DOT = ANYWHERE - {Phase.DOT}
MAIL = frozenset({Phase.MAIL})
RCPT = frozenset({Phase.RCPT})
AUTH = frozenset({Phase.AUTH})
DOT = frozenset({Phase.DOT})
STARTTLS = frozenset({Phase.STARTTLS})
AFTER_RCPT = frozenset({Phase.DATA, Phase.CONTENT, Phase.DOT})

_SIZE = (
    r"\bsize\b.{0,40}(exceed|limit|max|large|big)|(exceed|limit|max|large|big).{0,40}\bsize\b"
    r"|\b(message|mail|content)\b.{0,20}\btoo (large|big|long)\b"
)
_MAILBOX = r"\b(mailbox|inbox|recipient'?s?|user'?s?|account)\b.{0,30}\b(full|over ?quota|over its quota)\b" + (
    r"|mailbox for user is full|mailbox\b.{0,30}\bquota|account that you tried to reach"
)
_PERIOD = (
    r"\b(daily|hourly|weekly|monthly|second|minute|hour|day|month"
    r"|sending|outbound|outgoing|relay|relaying|submission)\b"
)
_LIMIT = r"\b(quota|limit|rate|threshold|max|allow|credit)"
_SPENT = r"\b(exceed|reach|used up)"
_PERIODIC_LIMIT = rf"^(?=.*{_PERIOD})(?=.*{_LIMIT})(?=.*{_SPENT})"
_MESSAGE_QUOTA = r"\b((message|e-?mail|mail) (quota|rate)|(account|user) rate)\b.{0,20}\bexceeded\b"
_RATE_LIMIT = r"\brate[ -]?limit(s|ed)?\b|throttl|QuotaExceeded|\bcredits exceeded\b|\bunusual sending activity\b"
_RATE = (
    r"\b(sending|unusual|message|mail|e-?mail) rate\b|\bunexpected volume\b"
    r"|\btoo (many|much) (e-?mails?|mails?|messages?)\b"
)
_CONNECTIONS = (
    r"\btoo many\b.{0,40}\b(connections|sessions)\b|\b(connections?|sessions?)\b.{0,20}\b(rate|limit|maximum)\b"
)
_CONTENT = r"\b(spam|virus|viruses|malware|phish\w*|infected|blocked content|attachment)\b"
_RECIPIENTS = r"\btoo many recipients\b"
_SENDER = (  # plain enough wherever it is said
    r"SendAsDenied|\bpermissions? to send (mail |messages? )?(as|on behalf)\b"
    r"|\bnot (allowed|permitted|authori[sz]ed) to send (mail |messages? )?(as|on behalf)\b"
    r"|\b(e-?mail|sender|from|envelope) (address|identity|domain)\b.{0,80}\bnot (been )?verified\b"
    r"|\bidentit(y|ies) failed the check\b|\bunverified sender\b"
    r"|\bsender\b.{0,120}\bnot (been )?(owned|verified|logged in)\b"
)
_SENDER_AT_MAIL = (  # at other phases this may be SPF, or a list that is closed to the author
    r"\b(sender|from|address)\b.{0,120}\bnot (allowed|permitted|authori[sz]ed)\b"
    r"|\bnot (allowed|permitted|authori[sz]ed)\b.{0,40}\b(sender|from|address)\b"
)

REPLY_RULES: tuple[ReplyRule, ...] = (
    # About the message's size. Only at MAIL can another upstream have more room for it: SIZE says so before.
    reply_rule("too-large", Kind.TOO_LARGE, MAIL, "552", "5.3.4 5.2.3"),
    reply_rule("too-large-text", Kind.TOO_LARGE, MAIL, "5yz", "", _SIZE),
    reply_rule("too-large-content", Kind.PERMANENT, TRANSACTION, "5yz", "", _SIZE),
    # About one recipient's mailbox, in which the word quota occurs too (RFC 3463: x.2.1 disabled, x.2.2 full).
    reply_rule("periodic-limit-at-rcpt", Kind.QUOTA, RCPT, "4yz 5yz", "x.2.1 x.2.2", _PERIODIC_LIMIT),
    reply_rule("mailbox-full", Kind.TRANSIENT, RCPT, "450 451 452", "x.2.1 x.2.2"),
    reply_rule("mailbox-full-final", Kind.PERMANENT, RCPT, "5yz", "x.2.1 x.2.2"),
    reply_rule("mailbox-full-text", Kind.TRANSIENT, TRANSACTION, "450 451 452", "", _MAILBOX),
    reply_rule("mailbox-full-final-text", Kind.PERMANENT, TRANSACTION, "5yz", "", _MAILBOX),
    # About how many connections we have: the next message may well pass.
    reply_rule("connections", Kind.SITE, BEFORE_DOT, "4yz 5yz", "", _CONNECTIONS),
    reply_rule("connections-at-dot", Kind.TRANSIENT, DOT, "4yz", "", _CONNECTIONS),
    # About what our account has sent.
    reply_rule("gmail-daily-limit", Kind.QUOTA, ANYWHERE, "5yz", "5.4.5"),
    reply_rule("gmail-rate", Kind.QUOTA, ANYWHERE, "4yz 5yz", "x.7.28"),
    reply_rule("microsoft-limit", Kind.QUOTA, ANYWHERE, "5yz", "5.1.90 5.7.232 5.7.233 5.7.705"),
    reply_rule("microsoft-busy", Kind.QUOTA, ANYWHERE, "4yz", "4.7.500"),
    reply_rule("quota-452", Kind.QUOTA, ANYWHERE, "452", "4.2.2"),
    reply_rule("content-text", Kind.PERMANENT, AFTER_RCPT, "5yz", "", _CONTENT),
    reply_rule("periodic-limit", Kind.QUOTA, ANYWHERE, "4yz 5yz", "", _PERIODIC_LIMIT),
    reply_rule("message-quota", Kind.QUOTA, ANYWHERE, "4yz 5yz", "", _MESSAGE_QUOTA),
    reply_rule("rate-limit", Kind.QUOTA, ANYWHERE, "4yz 5yz", "", _RATE_LIMIT),
    reply_rule("rate", Kind.QUOTA, ANYWHERE, "4yz", "", _RATE),
    reply_rule("quota", Kind.QUOTA, ANYWHERE - RCPT, "4yz", "", r"\bquota\b"),
    # About the number of recipients in one transaction; 552 is what older servers say (RFC 5321 section 4.5.3.1.10).
    reply_rule("too-many-recipients", Kind.TOO_MANY_RECIPIENTS, RCPT, "450 451 452 552", "x.5.3"),
    reply_rule("too-many-recipients-text", Kind.TOO_MANY_RECIPIENTS, RCPT, "450 451 452 552", "", _RECIPIENTS),
    # 421 closes the connection. At the dot it is a certain refusal like any other 4yz.
    reply_rule("closing", Kind.SITE, BEFORE_DOT, "421"),
    # About our credentials.
    reply_rule("login-refused", Kind.AUTH, AUTH, "5yz"),
    reply_rule("login-required", Kind.AUTH, TRANSACTION - DOT, "530 534 535 538"),
    # About this sender at this provider. Most say so only after RCPT or after the content; the texts are plain enough.
    reply_rule("microsoft-send-as", Kind.SENDER_REFUSED, TRANSACTION, "5yz", "5.7.60 5.2.252"),
    reply_rule("sender-not-allowed", Kind.SENDER_REFUSED, TRANSACTION, "5yz", "", _SENDER),
    reply_rule("sender-not-allowed-at-mail", Kind.SENDER_REFUSED, MAIL, "5yz", "", _SENDER_AT_MAIL),
    reply_rule("sender-domain", Kind.SENDER_REFUSED, MAIL, "5yz", "5.1.8"),
    reply_rule("sender-553", Kind.SENDER_REFUSED, MAIL, "553", "5.7.1"),
    reply_rule("sender-5.7.1", Kind.SENDER_REFUSED, MAIL, "550 554", "5.7.1", r"\bsender\b|\bfrom address\b"),
    # What remains is what the code says.
    reply_rule("starttls-refused", Kind.SECURITY, STARTTLS, "4yz 5yz"),
    reply_rule("site-refused", Kind.SITE, BEFORE_MAIL, "4yz 5yz"),
    reply_rule("transient", Kind.TRANSIENT, TRANSACTION, "4yz"),
    reply_rule("permanent", Kind.PERMANENT, TRANSACTION, "5yz"),
)  # fmt: skip

FAILURE_RULES: tuple[FailureRule, ...] = (
    failure_rule("unreachable", Kind.SITE, Cause.UNREACHABLE),
    failure_rule("timeout", Kind.SITE, Cause.TIMEOUT),
    failure_rule("closed", Kind.SITE, Cause.CLOSED),
    failure_rule("not-smtp", Kind.NONSENSE, Cause.PROTOCOL),
    failure_rule("tls", Kind.SECURITY, Cause.TLS),
    failure_rule("certificate", Kind.SECURITY, Cause.CERTIFICATE),
    failure_rule("plaintext", Kind.SECURITY, Cause.PLAINTEXT),
    failure_rule("login-impossible", Kind.AUTH, Cause.LOGIN),
    failure_rule("capability", Kind.CAPABILITY, Cause.CAPABILITY),
    failure_rule("busy", Kind.BUSY, Cause.BUSY),
    failure_rule("own-quota", Kind.BUSY, Cause.QUOTA),
    failure_rule("own-senders", Kind.CAPABILITY, Cause.SENDER),
    failure_rule("paused", Kind.BUSY, Cause.PAUSED),
    failure_rule("shutdown", Kind.LOCAL, Cause.SHUTDOWN),
    failure_rule("local", Kind.LOCAL, Cause.LOCAL),
)
