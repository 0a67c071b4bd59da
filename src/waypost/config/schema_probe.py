"""The schema of probes. The descriptions are the manual."""

from pydantic import Field

from waypost.config.fields import DurationOrOff, Flag, Mailbox, Section
from waypost.routing.probing import ProbeSettings

_PROBE = ProbeSettings()


class ProbeSection(Section):
    """How an upstream is probed: resolve, connect, greeting, EHLO, TLS, AUTH, then MAIL and RCPT to a canary."""

    interval: DurationOrOff = Field(
        _PROBE.interval,
        description="The time between two probes, made longer or shorter by up to a tenth at random. None is "
        "made while mail gets through, or while the upstream is paused or asleep. One that fails counts like a failed "
        "attempt; one that succeeds lets the next message be the trial of an upstream that was left alone.",
    )
    login: Flag = Field(_PROBE.login, description="Whether a probe authenticates, where there is `auth`.")
    canary: Mailbox | None = Field(
        None,
        description="A recipient that a probe asks about with MAIL and RCPT. Then it says RSET: nothing is ever sent. "
        "Not set: it asks about nobody.",
    )
    sender: Mailbox | None = Field(
        None,
        description="The reverse-path that it says then. Not set: the null one, `<>`, which some providers refuse.",
    )

    @property
    def value(self) -> ProbeSettings:
        """For everybody else."""
        return ProbeSettings(self.interval, self.login, self.canary, self.sender)
