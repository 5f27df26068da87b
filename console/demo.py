"""What the demo needs before the settings can be read: its Postgres, its secret, its own place."""

import fcntl
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import IO

from django.core.exceptions import ImproperlyConfigured

from console import embedded

_held: list[IO[str]] = []


def prepare(arguments: list[str]) -> None:
    """Sets the environment of `manage.py demo`; with `--reset`, forgets its data and exits.

    Raises ImproperlyConfigured when a demo runs on the same data already.
    """
    here = Path(__file__).resolve().parent.parent
    data = Path(os.environ.setdefault("COUNTERSIGN_DATA", str(here / ".data")))
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"COUNTERSIGN_DATA cannot be used: {error}") from None
    _hold(data)
    if "--reset" in arguments:
        _reset(data)
    if not os.environ.get("DATABASE_URL"):
        os.environ["DATABASE_URL"] = embedded.start(data / "postgres")
        os.environ["COUNTERSIGN_EMBEDDED"] = "1"
    os.environ["SECRET_KEY"] = os.environ.get("SECRET_KEY") or _secret(data / "secret_key")
    if host := os.environ.get("HOST", ""):
        everywhere = host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        shown = f"[{host}]" if ":" in host else host
        names = "*" if everywhere else f"localhost,127.0.0.1,{shown}"
        os.environ.setdefault("ALLOWED_HOSTS", names)


def finish() -> None:
    """Stops the embedded Postgres, however the command ended, if `prepare` started it."""
    if "COUNTERSIGN_EMBEDDED" in os.environ:
        embedded.stop(Path(os.environ["COUNTERSIGN_DATA"]) / "postgres")


def _hold(data: Path) -> None:
    """One demo at a time on one folder; the lock goes with the process, however it ends."""
    lock = (data / "demo.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ImproperlyConfigured(
            f"A demo runs on {data} already. End it with Ctrl-C first."
        ) from None
    _held.append(lock)


def _reset(data: Path) -> None:
    if os.environ.get("DATABASE_URL"):
        raise ImproperlyConfigured(
            "DATABASE_URL is set: its data is yours, not the demo's to drop."
        )
    embedded.stop(data / "postgres")
    shutil.rmtree(data / "postgres", ignore_errors=True)
    (data / "demo-logins.json").unlink(missing_ok=True)
    print("The demo's data is gone. The next `make demo` starts over.")
    sys.exit(0)


def _secret(path: Path) -> str:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(50))
    return path.read_text()
