from django.db import migrations

# Words of an error: lower case, everything that is no letter or digit parts two of them. IMMUTABLE, so that it can be indexed;
# search.py asks with the same expression. Only the beginning of a message counts: nobody remembers more of it.
CREATE = """
CREATE INDEX letters_by_word ON deadletters_deadletter USING gin (
    to_tsvector('simple', regexp_replace(
        lower(exception_type || ' ' || task_name || ' ' || left(exception_message, 1000)), '[^[:alnum:]]+', ' ', 'g'
    ))
)
"""


class Migration(migrations.Migration):

    dependencies = [
        ('deadletters', '0006_workers'),
    ]

    operations = [
        # A failure storm appends to the index' pending list (fastupdate, PostgreSQL's default), and vacuum sorts it in.
        migrations.RunSQL(CREATE, 'DROP INDEX letters_by_word'),
    ]
