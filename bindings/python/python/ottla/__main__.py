"""The `ottla` command: brokers, topics, records. `python -m ottla` is the same."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Runs the command with the process's arguments; gives its exit code."""
    # The command looks after Ctrl-C itself; Python's handler would only note it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from . import _native

    return _native.run(["ottla", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
