#!/usr/bin/env python
"""Every command of the platform: `python manage.py help`."""

import os
import sys


def main() -> int:
    """Run one management command; a missing server is one sentence, not a traceback. Exit 0 done, 1 failed, 2 not possible."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        from django.core.management import execute_from_command_line  # noqa: PLC0415  (a missing Django is explained below)
    except ImportError:
        print(
            "Django is not installed here. Run `bin/up` once: it makes .venv and installs what is needed.",
            file=sys.stderr,
        )
        return 2
    from config.unreachable import UNREACHABLE, explain  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except UNREACHABLE as problem:
        if "--traceback" in sys.argv:
            raise
        print(explain(problem), file=sys.stderr)
        return 2
    except BrokenPipeError:  # `manage.py … | head`: enough was read
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
