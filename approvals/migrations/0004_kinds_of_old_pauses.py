from django.db import migrations

# Reviews from before there were kinds. Those that wait are read again.
KINDS = """
UPDATE approvals_review SET root_checkpoint_id = checkpoint_id WHERE checkpoint_ns = '';
UPDATE approvals_review SET kind = 'question' WHERE interrupt_id <> '';
UPDATE approvals_review SET kind = 'unknown' WHERE interrupt_id = '' AND graph = '';
INSERT INTO approvals_threadchange (thread_id)
  SELECT DISTINCT thread_id FROM approvals_review WHERE status = 'waiting';
"""


class Migration(migrations.Migration):
    dependencies = [("approvals", "0003_every_pause")]
    operations = [migrations.RunSQL(KINDS, migrations.RunSQL.noop)]
