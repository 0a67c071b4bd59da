"""The process of one Starlark script: `python -m waypost.plugins.starlark_runner PATH SECONDS`.

In the server's own process one long operation of a script, which cannot be interrupted, would stop all mail, and its
memory could not be limited. A panic of the interpreter ends this process, and no other.
"""

import sys
from collections.abc import Callable

from waypost.plugins.port import Answer, Question
from waypost.plugins.runner import LoadError, serve
from waypost.plugins.starlark_script import ScriptError, load_script


def main(path: str, seconds: float) -> None:
    """Answers until standard input ends."""

    def load(target: str) -> Callable[[Question], Answer]:
        try:
            script = load_script(target)
        except ScriptError as error:
            raise LoadError(str(error)) from error
        return lambda question: script.answer(question, seconds)

    serve(path, load)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
