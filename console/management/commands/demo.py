"""`manage.py demo`: the main job on real runs, with one command and nothing else installed."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from approvals.policies import AUDITORS
from approvals.registry import registry
from console.ports import refuse_taken_port

AGENTS = ["support", "refunds"]
ACCOUNTS = [
    # username, first name, last name, role
    ("rita", "Rita", "Osei", "reviewer"),
    ("tom", "Tom", "Achebe", "reviewer"),
    ("ada", "Ada", "Lindqvist", "auditor"),
    ("admin", "Mara", "Quist", "admin"),
]


class Command(BaseCommand):
    help = "Runs two agents over sample messages, a worker and a web process; Ctrl-C ends it."

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = os.environ.get("HOST", "127.0.0.1"), os.environ.get("PORT", "8000")
        refuse_taken_port(host, port)
        registry()
        # Ctrl-C and a plain kill end the demo the same way: everything it started, in order.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        children: list[subprocess.Popen[bytes]] = []
        try:
            call_command("migrate", verbosity=0)
            logins = make_accounts(settings.DATA_DIR)
            for name in AGENTS:
                self.stdout.write(run_graph(name))
            children = [start("worker"), start("web", "--host", host, "--port", port)]
            wait_until_ready(host, port, children)
            self.stdout.write(welcome(host, port, logins))
            self.stdout.flush()
            wait(children)
        except KeyboardInterrupt:
            self.stdout.write("\nStopping.")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave orphans
            end(children)
            connection.close()
            self.stdout.write("Stopped. What was decided is kept; `make demo` goes on from here.")


def make_accounts(data: Path) -> list[tuple[str, str, str]]:
    """(username, password, role) of each; passwords are made once and kept beside the data."""
    notes = data / "demo-logins.json"
    data.mkdir(parents=True, exist_ok=True)
    known = json.loads(notes.read_text()) if notes.exists() else {}
    ours = set(known)
    reviewers = [Group.objects.get_or_create(name=name)[0] for name in reviewers_of(AGENTS)]
    auditors, _ = Group.objects.get_or_create(name=AUDITORS)
    made = []
    for username, first, last, role in ACCOUNTS:
        password = known.setdefault(username, f"{username}-{secrets.token_hex(4)}")
        user = get_user_model().objects.filter(username=username).first()
        if user is not None and username not in ours:
            raise CommandError(
                f"This database has an account {username!r} that the demo did not make. "
                "Point DATABASE_URL at a database of the demo's own."
            )
        user = user or get_user_model()(username=username)
        user.first_name, user.last_name = first, last
        user.is_staff = user.is_superuser = role == "admin"
        if not user.check_password(password):
            user.set_password(password)
        user.save()
        groups = {"reviewer": reviewers, "auditor": [auditors], "admin": []}[role]
        user.groups.set(groups)
        made.append((username, password, role))
    notes.touch(mode=0o600)
    notes.write_text(json.dumps(known))
    return made


def reviewers_of(names: list[str]) -> list[str]:
    """The groups that decide what these graphs ask."""
    for name in names:
        if registry().get(name) is None:
            raise CommandError(
                f"The demo runs the graph `{name}`, which langgraph.json does not name."
            )
    return [registry().graphs[name].review.group for name in names]


def run_graph(name: str) -> str:
    """The agent's own program, which knows nothing of us; its one line of summary."""
    ran = subprocess.run(
        [sys.executable, "-m", "graphs.intake", "--graph", name],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": settings.DATABASE_URL},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        lines = ran.stderr.strip().splitlines() or ["it said nothing"]
        raise CommandError(f"The graph {name} did not run: {lines[-1]}")
    return f"{name}: {ran.stdout.strip()}"


def start(*command: str) -> "subprocess.Popen[bytes]":
    # Sessions of their own: Ctrl-C reaches only this process, which then ends them in order.
    return subprocess.Popen(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), *command],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": settings.DATABASE_URL},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_until_ready(host: str, port: str, children: list["subprocess.Popen[bytes]"]) -> None:
    address = f"http://{reachable(host)}:{port}/ready"
    last = "it did not answer"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(child.poll() is not None for child in children):
            raise CommandError("The web process or the worker ended early; its reason is above.")
        try:
            answer = httpx.get(address, timeout=2, trust_env=False)
            if answer.status_code == 200:
                return
            last = "; ".join(answer.json().get("reasons", []))
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise CommandError(f"Not ready after 60 s: {last}.")


def reachable(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def welcome(host: str, port: str, logins: list[tuple[str, str, str]]) -> str:
    lines = "\n".join(f"    {name:<8}{password:<18}{role}" for name, password, role in logins)
    return (
        f"\nCountersign is ready: http://{reachable(host)}:{port}/\n\n"
        f"  Logins, for this demo only:\n{lines}\n\n"
        f"  Drafted by: {os.environ.get('SUPPORT_MODEL') or 'the rule-based drafter (offline)'}\n"
        f"  Refunds by: {os.environ.get('REFUNDS_MODEL') or 'a rule-based model (offline)'}\n"
        "  Ctrl-C stops everything.\n"
    )


def wait(children: list["subprocess.Popen[bytes]"]) -> None:
    while all(child.poll() is None for child in children):
        time.sleep(0.3)
    raise CommandError("The web process or the worker ended; its reason is above.")


def end(children: list["subprocess.Popen[bytes]"]) -> None:
    for child in reversed(children):
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()
