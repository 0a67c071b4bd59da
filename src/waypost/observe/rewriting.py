"""The records of what was changed in messages."""

from collections.abc import Sequence

from waypost.observe.lines import Lines
from waypost.observe.pieces import addresses, member, quote
from waypost.smtp.address import Address


class RewritingLines(Lines):
    """Tells of rewriting. `place` is `route` or `upstream`, `where` its name."""

    def rewritten(
        self,
        message_id: str,
        place: str,
        where: str,
        old: Address,
        new: Address,
        *,
        aligned: bool,
        signed: Sequence[str] = (),
    ) -> None:
        """What a route or an upstream wants to be different was changed; the reverse-path was `old` and is `new`."""
        path, original = str(new), str(old)
        said = member("original_reverse_path", original) if original != path else ""
        by = f',"signed":{addresses(signed)}' if signed else ""
        line = (
            f'{self._start("rewritten", message_id)},"{place}":{quote(where)},"reverse_path":{quote(path)}{said}'
            f',"aligned":{"true" if aligned else "false"}{by}}}'
        )
        self._tell(message_id, line, [each.lower() for each in dict.fromkeys((path, original)) if each])
        self._metrics.messages_rewritten[place, where, "aligned" if aligned else "not_aligned"] += 1

    def signature_broken(self, message_id: str, place: str, where: str, domains: Sequence[str]) -> None:
        """Rewriting has broken the DKIM signatures of these domains."""
        start = self._start("signature_broken", message_id)
        self._tell(message_id, f'{start},"{place}":{quote(where)},"domains":{addresses(domains)}}}')
        self._metrics.signatures_broken[place, where] += 1
