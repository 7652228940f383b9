"""What only a person can say: asked on a terminal, given by `--answer`, or taken as proposed with `--yes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from schema.errors import ConfigError


class Answers:
    """Answers by key.

    Args:
      given: from the command line.
      ask: shows a question and reads a line; None asks nothing.
      say: shows a line.
    """

    def __init__(
        self, given: Mapping[str, str], ask: Callable[[str], str] | None, say: Callable[[str], None]
    ) -> None:
        self._given, self._ask, self._say = dict(given), ask, say
        self._used: set[str] = set()

    def get(self, key: str) -> str | None:
        """The answer that was given, None without one."""
        self._used.add(key)
        return self._given.get(key)

    def starting(self, prefix: str) -> dict[str, str]:
        """The given answers whose key begins with a prefix, by the rest of the key."""
        found = {key: value for key, value in self._given.items() if key.startswith(prefix)}
        self._used |= found.keys()
        return {key.removeprefix(prefix): value for key, value in found.items()}

    def choose(self, key: str, question: str, proposed: str | None, options: Sequence[str] = ()) -> str:
        """An answer.

        Args:
          key: its key.
          question: for a person.
          proposed: the answer of who only agrees; None where nothing can be proposed.
          options: the answers that there are; any if empty.

        Raises:
          ConfigError: no answer, or none of the options.
        """
        answer = self.get(key)
        choice = f" ({', '.join(options)})" if options else ""
        if answer is None and self._ask is not None:
            default = f" [{proposed}]" if proposed is not None else ""
            answer = self._ask(f"{question}{choice}{default}: ").strip() or None
        if answer is None:
            if proposed is None:
                raise ConfigError(f"{question}{choice}: give --answer {key}=...")
            self._say(f"taken as proposed: {question}? {proposed} (--answer {key}=... changes it)")
            answer = proposed
        if options and answer not in options:
            raise ConfigError(f"--answer {key}={answer}: give one of {', '.join(options)}")
        self._given[key] = answer
        return answer

    def check_used(self) -> None:
        """Whether every answer that was given answers something.

        Raises:
          ConfigError: one does not.
        """
        for key in self._given.keys() - self._used:
            raise ConfigError(f"--answer {key}: answers no question; asked were {sorted(self._used)}")
