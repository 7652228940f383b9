"""`python -m serving.gateway`."""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m serving.gateway") -> int:
    """Runs the command, or says which packages it needs (see `serving.gateway.command.main`)."""
    try:
        from serving.gateway import command
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("serving", "schema"):
            raise
        print(
            f"error: the package {error.name} is missing; run `pip install 'shelfwise[gateway]'`",
            file=sys.stderr,
        )
        return 1
    return command.main(argv, prog=prog)


if __name__ == "__main__":
    sys.exit(main())
