"""A process that starts a server, prints its DSN, and waits until its standard input ends or it is killed.

usage: server_session.py DATA_FOLDER
"""

import json
import os
import sys
import threading

from penstock.dev.postgres import EmbeddedPostgres


def main() -> None:
    server = EmbeddedPostgres(sys.argv[1])
    # In a thread that ends: the server must not end with it.
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    print(json.dumps({"dsn": server.dsn, "pid": server.server_pid, "uid": os.geteuid()}), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
