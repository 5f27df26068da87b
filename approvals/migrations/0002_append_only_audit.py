"""The audit trail can be added to, and nothing else: the database itself refuses the rest."""

from django.db import migrations

REFUSE = """
CREATE FUNCTION countersign_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit trail is append-only: % refused', TG_OP;
END $$;
CREATE TRIGGER countersign_append_only BEFORE UPDATE OR DELETE ON approvals_auditentry
  FOR EACH ROW EXECUTE FUNCTION countersign_refuse_change();
CREATE TRIGGER countersign_never_emptied BEFORE TRUNCATE ON approvals_auditentry
  FOR EACH STATEMENT EXECUTE FUNCTION countersign_refuse_change();
"""
ALLOW = """
DROP TRIGGER countersign_append_only ON approvals_auditentry;
DROP TRIGGER countersign_never_emptied ON approvals_auditentry;
DROP FUNCTION countersign_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("approvals", "0001_initial")]
    operations = [migrations.RunSQL(REFUSE, ALLOW)]
