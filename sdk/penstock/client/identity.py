"""Who asks, and what names one call."""

from __future__ import annotations

import getpass
import socket
import uuid


def new_request_id() -> str:
    return str(uuid.uuid4())


def caller_name() -> str:
    """user@host, for people who ask who paused or cancelled something. Proves nothing."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
