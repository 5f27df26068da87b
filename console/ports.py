"""A port that cannot be used is said before anything is started."""

import socket

from django.core.management.base import CommandError


def refuse_taken_port(host: str, port: str) -> None:
    """Raises CommandError when nothing could listen there."""
    try:
        number = int(port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, number))
    except (ValueError, OverflowError):
        raise CommandError(f"PORT must be a number from 1 to 65535, not {port!r}.") from None
    except OSError as error:
        raise CommandError(
            f"{host}:{port} cannot be used ({error.strerror}). Choose another with PORT=8010."
        ) from None
