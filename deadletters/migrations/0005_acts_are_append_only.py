"""Acts are never changed and only retention deletes them; the errors that letters have already get their rows."""

from django.db import migrations

GUARD = """
    CREATE FUNCTION deadletters_act_guard() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- Retention says so, for its own transaction; nothing else does.
        IF TG_OP = 'DELETE' AND current_setting('deadletters.retention', true) = 'on' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'The audit trail is append-only: % of act % was refused', TG_OP, OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END $$;
    CREATE TRIGGER deadletters_act_guard BEFORE UPDATE OR DELETE ON deadletters_act
        FOR EACH ROW EXECUTE FUNCTION deadletters_act_guard();
"""
UNGUARD = "DROP TRIGGER deadletters_act_guard ON deadletters_act; DROP FUNCTION deadletters_act_guard();"
KNOWN_ERRORS = """
    INSERT INTO deadletters_errorgroup
           (fingerprint, state, task_name, exception_type, message, cause, note, first_seen, last_seen, deaths)
    SELECT DISTINCT ON (fingerprint) fingerprint, 'open', task_name, exception_type, left(exception_message, 300), cause, '',
           min(died_at) OVER one, max(died_at) OVER one, sum(deaths) OVER one
      FROM deadletters_deadletter WINDOW one AS (PARTITION BY fingerprint)
     ORDER BY fingerprint, died_at DESC
    ON CONFLICT (fingerprint) DO NOTHING
"""


class Migration(migrations.Migration):
    dependencies = [("deadletters", "0004_error_groups_acts_redrives")]

    operations = [
        migrations.RunSQL(GUARD, UNGUARD),
        migrations.RunSQL(KNOWN_ERRORS, migrations.RunSQL.noop),
    ]
