"""Runs ``autokv`` for no longer than the process that started it: ``python -m autokv.cli.tether COMMAND …``.

Standard input is a pipe of which only that process holds the other end: it closes when the process ends, however
that comes about.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from autokv.cli.main import main

PAUSE_SECONDS = 0.5
"""Between asking to stop, and to stop at once."""
LIMIT_SECONDS = 10.0
"""For giving back what is held."""


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    for seconds in (PAUSE_SECONDS, LIMIT_SECONDS):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, name="tether", daemon=True).start()
    main()
