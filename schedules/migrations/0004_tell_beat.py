"""Triggers: whoever edits a schedule, by whatever means, beat hears of it, and what was changed counts from now."""

from django.db import migrations

# NOTIFY takes 8000 bytes: ids go in parts of 700. Transition tables have no statistics, hence no nested loops (15 minutes against a second).
FUNCTIONS = r"""
CREATE FUNCTION schedules_tell() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
  IF current_setting('schedules.silent', true) = 'on' THEN RETURN NULL; END IF;
  IF TG_OP = 'INSERT' THEN
    PERFORM pg_notify('schedules', 'task:' || string_agg(id::text, ','))
       FROM (SELECT id, row_number() OVER () / 700 AS part FROM after) ids GROUP BY part;
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM pg_notify('schedules', 'task:' || string_agg(id::text, ','))
       FROM (SELECT id, row_number() OVER () / 700 AS part FROM before) ids GROUP BY part;
  ELSE
    PERFORM pg_notify('schedules', 'task:' || string_agg(id::text, ','))
       FROM (SELECT id, row_number() OVER () / 700 AS part FROM after JOIN before USING (id)
              WHERE (after.enabled, after.interval_id, after.crontab_id, after.solar_id, after.clocked_id, after.start_time, after.expires,
                     after.one_off, after.last_run_at, after.args, after.kwargs, after.headers, after.task)
                 IS DISTINCT FROM
                    (before.enabled, before.interval_id, before.crontab_id, before.solar_id, before.clocked_id, before.start_time, before.expires,
                     before.one_off, before.last_run_at, before.args, before.kwargs, before.headers, before.task)) ids GROUP BY part;
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION schedules_tell_policy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    PERFORM pg_notify('schedules', 'task:' || string_agg(schedule_id::text, ','))
       FROM (SELECT schedule_id, row_number() OVER () / 700 AS part FROM before) ids GROUP BY part;
  ELSE
    PERFORM pg_notify('schedules', 'task:' || string_agg(schedule_id::text, ','))
       FROM (SELECT schedule_id, row_number() OVER () / 700 AS part FROM after) ids GROUP BY part;
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION schedules_tell_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('schedules', 'all:');
  RETURN NULL;
END $$;
CREATE FUNCTION schedules_tell_timing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('schedules', TG_ARGV[0] || ':' || NEW.id);
  EXECUTE format('UPDATE django_celery_beat_periodictask SET last_run_at = NULL, date_changed = now() WHERE %I = $1 AND enabled', TG_ARGV[0] || '_id')
    USING NEW.id;
  RETURN NULL;
END $$;
CREATE FUNCTION schedules_count_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.last_run_at := NULL;
  NEW.date_changed := now();
  RETURN NEW;
END $$;
"""
TASK = "django_celery_beat_periodictask"
TRIGGERS = f"""
CREATE TRIGGER schedules_tell_insert AFTER INSERT ON {TASK} REFERENCING NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION schedules_tell();
CREATE TRIGGER schedules_tell_update AFTER UPDATE ON {TASK} REFERENCING OLD TABLE AS before NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION schedules_tell();
CREATE TRIGGER schedules_tell_delete AFTER DELETE ON {TASK} REFERENCING OLD TABLE AS before
  FOR EACH STATEMENT EXECUTE FUNCTION schedules_tell();
CREATE TRIGGER schedules_tell_truncate AFTER TRUNCATE ON {TASK} FOR EACH STATEMENT EXECUTE FUNCTION schedules_tell_all();
CREATE TRIGGER schedules_tell_insert AFTER INSERT ON schedules_policy REFERENCING NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION schedules_tell_policy();
CREATE TRIGGER schedules_tell_update AFTER UPDATE ON schedules_policy REFERENCING NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION schedules_tell_policy();
CREATE TRIGGER schedules_tell_delete AFTER DELETE ON schedules_policy REFERENCING OLD TABLE AS before
  FOR EACH STATEMENT EXECUTE FUNCTION schedules_tell_policy();
CREATE TRIGGER schedules_tell AFTER UPDATE ON django_celery_beat_crontabschedule FOR EACH ROW
  WHEN (OLD IS DISTINCT FROM NEW) EXECUTE FUNCTION schedules_tell_timing('crontab');
CREATE TRIGGER schedules_tell AFTER UPDATE ON django_celery_beat_intervalschedule FOR EACH ROW
  WHEN (OLD IS DISTINCT FROM NEW) EXECUTE FUNCTION schedules_tell_timing('interval');
CREATE TRIGGER schedules_tell AFTER UPDATE ON django_celery_beat_solarschedule FOR EACH ROW
  WHEN (OLD IS DISTINCT FROM NEW) EXECUTE FUNCTION schedules_tell_timing('solar');
CREATE TRIGGER schedules_tell AFTER UPDATE ON django_celery_beat_clockedschedule FOR EACH ROW
  WHEN (OLD IS DISTINCT FROM NEW) EXECUTE FUNCTION schedules_tell_timing('clocked');
-- Turned on, or with another time: what it would have missed does not run by surprise.
CREATE TRIGGER schedules_count_anew BEFORE UPDATE ON {TASK} FOR EACH ROW
  WHEN (NEW.enabled AND NEW.last_run_at IS NOT DISTINCT FROM OLD.last_run_at
        AND (NOT OLD.enabled OR (NEW.interval_id, NEW.crontab_id, NEW.solar_id, NEW.clocked_id, NEW.start_time)
             IS DISTINCT FROM (OLD.interval_id, OLD.crontab_id, OLD.solar_id, OLD.clocked_id, OLD.start_time)))
  EXECUTE FUNCTION schedules_count_anew();
-- Those who delete a schedule with SQL need not know of our tables.
ALTER TABLE schedules_policy ADD CONSTRAINT schedules_policy_schedule FOREIGN KEY (schedule_id)
  REFERENCES {TASK} (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE schedules_broken ADD CONSTRAINT schedules_broken_schedule FOREIGN KEY (schedule_id)
  REFERENCES {TASK} (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
"""
UNDO = f"""
ALTER TABLE schedules_broken DROP CONSTRAINT schedules_broken_schedule;
ALTER TABLE schedules_policy DROP CONSTRAINT schedules_policy_schedule;
DROP FUNCTION schedules_count_anew, schedules_tell_timing, schedules_tell_all, schedules_tell_policy, schedules_tell CASCADE;
"""


class Migration(migrations.Migration):
    dependencies = [("schedules", "0003_occurrences")]

    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO)]
