"""The health check of the images: asks this container's own HTTP port.

python probe.py VARIABLE PATH       VARIABLE holds the host:port that is listened on; exit code 0 if PATH answers 200
"""

import http.client
import os
import sys

PATIENCE = 4.0


def main() -> int:
    variable, path = sys.argv[1:]
    port = int(os.environ[variable].rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        print(answer.status, answer.read(500).decode(errors="replace"))
    except OSError as error:
        print(f"{path} on port {port}: {error}")
        return 1
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
