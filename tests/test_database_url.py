"""DATABASE_URL: every form that agents already use, and no password in any complaint."""

import os
import subprocess
import sys

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql.base import DatabaseWrapper

from console.database import django_database, libpq_url, parameters
from tests.postgres import ROOT

PLAIN = {"NAME": "agents", "USER": "ann", "PASSWORD": "pw", "HOST": "db.example", "PORT": "5433"}
SCHEMES = [
    "postgres",
    "postgresql",
    "postgresql+asyncpg",
    "postgresql+psycopg2",
    "postgresql+psycopg",
    "POSTGRESQL+AsyncPG",
]
HOST = "db.example"
# (what follows the scheme, Django's settings, libpq's options)
FORMS = {
    "short": ("ann@db.example/agents", {"NAME": "agents", "USER": "ann", "HOST": HOST}, {}),
    "nobody": ("db.example/agents", {"NAME": "agents", "HOST": HOST}, {}),
    "socket in the query": (
        "ann@/agents?host=/var/run/postgresql",
        {"NAME": "agents", "USER": "ann", "HOST": "/var/run/postgresql"},
        {},
    ),
    "socket as the host": (
        "ann:pw@%2Fvar%2Frun%2Fpostgresql/agents",
        {"NAME": "agents", "USER": "ann", "PASSWORD": "pw", "HOST": "/var/run/postgresql"},
        {},
    ),
    "socket with a port": (
        "/agents?host=/run/pg&port=5440",
        {"NAME": "agents", "HOST": "/run/pg", "PORT": "5440"},
        {},
    ),
    "sslmode": (
        "ann@db.example/agents?sslmode=require",
        {"NAME": "agents", "USER": "ann", "HOST": HOST},
        {"sslmode": "require"},
    ),
    "ssl, as asyncpg says it": (
        "ann@db.example/agents?ssl=verify-full",
        {"NAME": "agents", "USER": "ann", "HOST": HOST},
        {"sslmode": "verify-full"},
    ),
    "ssl, not first": (
        "ann@db.example/agents?application_name=x&ssl=require",
        {"NAME": "agents", "USER": "ann", "HOST": HOST},
        {"sslmode": "require", "application_name": "x"},
    ),
    "IPv6": (
        "ann@[::1]:5433/agents",
        {"NAME": "agents", "USER": "ann", "HOST": "::1", "PORT": "5433"},
        {},
    ),
    "percent-encoded": (
        "a%40b:p%40ss%3A%2F%3F%23%25@db.example/my%20agents",
        {"NAME": "my agents", "USER": "a@b", "PASSWORD": "p@ss:/?#%", "HOST": HOST},
        {},
    ),
    "a password with ssl= in it": (
        "ann:x%3Fssl=1@db.example/agents",
        {"NAME": "agents", "USER": "ann", "PASSWORD": "x?ssl=1", "HOST": HOST},
        {},
    ),
    "options": (
        "ann@db.example/agents?options=-csearch_path%3Dagents%2Cpublic&connect_timeout=3",
        {"NAME": "agents", "USER": "ann", "HOST": HOST},
        {"options": "-csearch_path=agents,public", "connect_timeout": "3"},
    ),
    "several hosts": (
        "ann@one:5432,two:5433/agents?target_session_attrs=read-write",
        {"NAME": "agents", "USER": "ann", "HOST": "one,two", "PORT": "5432,5433"},
        {"target_session_attrs": "read-write"},
    ),
}
DEFAULTS = {
    "connect_timeout": 5,
    "application_name": "countersign",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
ALWAYS = "-c idle_in_transaction_session_timeout=15s"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_means_the_same(scheme):
    found = django_database(f"{scheme}://ann:pw@db.example:5433/agents")
    assert {key: found[key] for key in PLAIN} == PLAIN
    assert found["ENGINE"] == "django.db.backends.postgresql"
    assert found["OPTIONS"] == {**DEFAULTS, "options": ALWAYS}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+asyncpg"])
@pytest.mark.parametrize("form", FORMS)
def test_a_form_becomes_django_settings(form, scheme):
    rest, named, options = FORMS[form]
    found = django_database(f"{scheme}://{rest}")
    always = {"options": f"{ALWAYS} {options.get('options', '')}".strip()}
    assert found.pop("OPTIONS") == {**DEFAULTS, **options, **always}
    assert found == {
        "ENGINE": "django.db.backends.postgresql",
        "DISABLE_SERVER_SIDE_CURSORS": False,
        **named,
    }


@pytest.mark.parametrize("form", FORMS)
def test_what_django_hands_to_psycopg_is_what_the_url_said(form):
    rest, named, _ = FORMS[form]
    settings = {"HOST": "", "PORT": "", "USER": "", "PASSWORD": "", "TIME_ZONE": None}
    settings |= django_database(f"postgresql://{rest}")
    handed = DatabaseWrapper(settings).get_connection_params()
    ours = {
        "NAME": "dbname",
        "USER": "user",
        "PASSWORD": "password",
        "HOST": "host",
        "PORT": "port",
    }
    assert {key: handed[ours[key]] for key in named} == named


def test_a_pooled_address_asks_for_nothing_that_a_pooler_refuses():
    found = django_database("postgresql://ann@db.example/agents", pooled=True)
    assert "options" not in found["OPTIONS"]
    assert found["DISABLE_SERVER_SIDE_CURSORS"]
    settings = {"HOST": "", "PORT": "", "USER": "", "PASSWORD": "", "TIME_ZONE": None, **found}
    assert DatabaseWrapper(settings).get_connection_params()["prepare_threshold"] is None


POOLED, DIRECT = "postgresql://ann@pooler.example/agents", "postgresql://ann@db.example/agents"
TELL = """
import sys
sys.argv = ["manage.py", {command!r}]
import manage
manage.run = lambda: None
manage.main()
from django.conf import settings
default = settings.DATABASES["default"]
print(default["HOST"], "options" in default["OPTIONS"], settings.DIRECT_DATABASE.get("host"))
"""


def told(command: str, **environment: str) -> list[str]:
    """[host of the ORM's connections, whether they set options, host of the LISTEN connection]"""
    ran = subprocess.run(
        [sys.executable, "-c", TELL.format(command=command)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.split()


def test_only_web_works_through_the_pooler_and_it_listens_past_it():
    both = {"DATABASE_URL": POOLED, "DIRECT_DATABASE_URL": DIRECT}
    assert told("web", **both) == ["pooler.example", "False", "db.example"]
    assert told("worker", **both) == ["db.example", "True", "db.example"]
    assert told("migrate", **both) == ["db.example", "True", "db.example"]
    assert told("web", DATABASE_URL=DIRECT) == ["db.example", "True", "None"]


def test_surrounding_space_is_forgiven():
    assert django_database("  postgres://ann@db.example/agents\n")["NAME"] == "agents"


@pytest.mark.django_db
def test_a_url_of_every_scheme_reaches_the_server():
    from tests.conftest import test_url

    rest = test_url().partition("://")[2]
    for scheme in SCHEMES:
        with psycopg.connect(libpq_url(f"{scheme}://{rest}")) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


SECRET = "hunter2secret"
BROKEN = {
    "another database": (f"mysql://ann:{SECRET}@db.example/agents", "must start with postgres://"),
    "another driver": (f"postgresql+pg8000://ann:{SECRET}@db.example/agents", "asyncpg"),
    "no scheme": (f"ann:{SECRET}@db.example/agents", "must start with postgres://"),
    "no database": (f"postgres://ann:{SECRET}@db.example", "names no database: end it with /name"),
    "an empty database": (f"postgres://ann:{SECRET}@db.example/", "names no database"),
    "half a bracket": (f"postgres://ann:{SECRET}@[::1/agents", "cannot be read"),
    "a bad escape": (f"postgres://ann:{SECRET}%zz@db.example/agents", "cannot be read"),
    "an unknown parameter": (f"postgres://ann:{SECRET}@db.example/agents?nope=1", "cannot be read"),
    "a slash in the password": (f"postgres://ann:{SECRET}/x@db.example/agents", "DATABASE_URL"),
    "a port that is none": (f"postgres://ann:{SECRET}@db.example:x/agents", "DATABASE_URL"),
    "a space in the password": (f"postgres://ann:{SECRET} x@db.example/agents", "cannot be read"),
    "nothing": ("   ", "must start with postgres://"),
}


def test_a_broken_direct_url_is_named_as_the_direct_one():
    url, says = BROKEN["no database"]
    with pytest.raises(ImproperlyConfigured) as caught:
        parameters(url, "DIRECT_DATABASE_URL")
    assert str(caught.value).startswith("DIRECT_DATABASE_URL")
    assert says in str(caught.value)


@pytest.mark.parametrize("form", BROKEN)
def test_a_broken_url_is_refused_without_its_password(form):
    url, says = BROKEN[form]
    with pytest.raises(ImproperlyConfigured) as caught:
        django_database(url)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
