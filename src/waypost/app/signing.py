"""The keys that Waypost signs mail with, if there are any."""

from collections.abc import Callable

from waypost.config.settings import Settings
from waypost.delivery.signing import Signer, SigningOutcome
from waypost.mail.dkim import Key
from waypost.observe.metrics import Metrics


def new_signer(settings: Settings, time: Callable[[], float], metrics: Metrics) -> Signer | None:
    """Who signs, or None. `time` gives seconds since the epoch."""
    if not settings.dkim:
        return None
    from waypost.mail.dkim_key import read_key  # it loads a library that others need not have

    keys = []
    for each in settings.dkim:
        private = read_key(each.key.reveal().encode())
        keys.append(
            Key(
                each.domain,
                each.selector,
                private.algorithm,
                private.sign,
                each.headers,
                each.header_form,
                each.body_form,
                each.subdomains,
            )
        )

    def counted(domain: str, outcome: SigningOutcome) -> None:
        metrics.signatures[domain, outcome] += 1

    return Signer(keys, time, counted)
