import gc

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ApprovalsConfig(AppConfig):
    name = "approvals"

    def ready(self) -> None:
        from approvals import checks, install, signals  # noqa: F401

        post_migrate.connect(install.after_migrate, sender=self)
        gc.freeze()  # manage.py switched it off for the imports
        gc.enable()
