# One image for both kinds of process:
#   docker run … countersign                                  a web process
#   docker run … countersign python manage.py worker          a worker
#   docker run … countersign python manage.py migrate         once per deploy
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY requirements-run.lock /tmp/
RUN /venv/bin/python -m pip install --require-hashes -r /tmp/requirements-run.lock
WORKDIR /app
COPY manage.py pyproject.toml langgraph.json reviews.toml ./
COPY console console
COPY approvals approvals
COPY graphs graphs
COPY templates templates
COPY locale locale
# Collecting needs neither a database nor a secret: neither exists while an image is built.
RUN /venv/bin/python manage.py collectstatic --noinput

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home countersign
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0 PORT=8000
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["python", "manage.py", "web"]
