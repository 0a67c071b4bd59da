"""Where the checks put what they find."""

from typing import Any

from waypost.config.document import Tree
from waypost.config.errors import Origin, Path, Problem, did_you_mean
from waypost.config.schema import REQUIRED
from waypost.config.validate import Validated
from waypost.config.walk import keys_at
from waypost.routing.address_list import AddressList


class Report:
    """Problems with their places, and warnings.

    Checks run on what is left of a configuration with mistakes: `names` and `given` tell what was written, so
    that one mistake is not reported as the absence of something.
    """

    def __init__(self, validated: Validated[Any], tree: Tree) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.lists: dict[str, AddressList] = {}
        """What was read along with the check: the lists that rules look into, by the names of their files."""
        self._validated = validated
        self._tree = tree

    def problem(self, path: Path, text: str, suggestion: str = "", *, key: bool = False) -> None:
        """A mistake at `path`, which is one in the model."""
        original = self._validated.original(path)
        self.problems.append(self._tree.problem(original, text, suggestion, key=key))

    def unknown(self, path: Path, text: str, name: str, known: tuple[str, ...]) -> None:
        """A reference to something that does not exist."""
        self.problem(path, text, did_you_mean(name, known))

    def warn(self, path: Path, text: str, suggestion: str = "", *, key: bool = False) -> None:
        """Something at `path` that is said on every start and stops nothing."""
        original = self._validated.original(path)
        self.warnings.append(self._tree.problem(original, text, suggestion, key=key))

    def place(self, path: Path) -> Origin:
        """Where the node at `path`, one in the model, was written."""
        return self._tree.place(self._validated.original(path))

    def given(self, *path: str | int) -> bool:
        """Whether anything was written at `path`, right or wrong."""
        return self._tree.get(self._validated.original(path)) is not None

    def names(self, section: str) -> tuple[str, ...]:
        """The names in a mapping such as `upstreams`, including those with mistakes in them."""
        node = self._tree.get((section,))
        return tuple(node) if isinstance(node, dict) else ()

    def is_absent(self, section: str) -> bool:
        """Whether a top-level section is not there, and that has been said: it is required, or is misspelt."""
        return not self.given(section) and (section in REQUIRED or self._validated.is_misspelt((section,)))

    def has_unknown(self, *path: str | int) -> bool:
        """Whether a setting that does not exist stands at `path`: it may be meant for any of those that do."""
        original, model = self._validated.original(path), self._validated.model
        known = keys_at(type(model), original) if model is not None else ()
        return any(gone[:-1] == original and gone[-1] not in known for gone in self._validated.gone)

    def is_lost(self, *path: str | int) -> bool:
        """Whether something at `path` or below was left out because of a mistake.

        The model has a default or a stand-in there, from which nothing follows.
        """
        original = self._validated.original(path)
        return any(gone[: len(original)] == original for gone in self._validated.gone)
