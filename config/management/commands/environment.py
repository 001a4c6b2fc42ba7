from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from pydantic.fields import FieldInfo

from config.environment import Environment

BEGIN, END = "<!-- environment: begin -->", "<!-- environment: end -->"


class Command(BaseCommand):
    help = "Every environment variable of the platform, with its default and what it is for."
    epilog = f"""examples:
  manage.py environment                     to read here
  manage.py environment --markdown          as a table
  manage.py environment --write README.md   put the table between {BEGIN} and {END}
  manage.py environment --check README.md   exit 1 when that table is not up to date"""
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, epilog=self.epilog, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--markdown", action="store_true", help="Print a Markdown table.")
        form.add_argument("--write", type=Path, metavar="FILE", help="Write that table into a file.")
        form.add_argument("--check", type=Path, metavar="FILE", help="Compare that table with a file's.")

    def handle(self, *, markdown: bool, write: Path | None, check: Path | None, **_: Any) -> None:
        if write:
            write.write_text(_with_table(write))
        elif check and _with_table(check) != check.read_text():
            raise CommandError(f"The table in {check} is not up to date: run `manage.py environment --write {check}`.")
        elif markdown:
            self.stdout.write(_table())
        elif not check:
            for name, field in Environment.model_fields.items():
                self.stdout.write(f"{name} ({_default(field) or 'empty'})\n    {field.description}")


def _with_table(path: Path) -> str:
    try:
        before, rest = path.read_text().split(BEGIN)
        _, after = rest.split(END)
    except (OSError, ValueError) as problem:
        raise CommandError(f"{path} cannot be read, or has no `{BEGIN}` … `{END}` in it.", returncode=2) from problem
    return f"{before}{BEGIN}\n{_table()}\n{END}{after}"


def _table() -> str:
    rows = [
        f"| `{name}` | {f'`{default}`' if (default := _default(field)) else ''} | {field.description} |"
        for name, field in Environment.model_fields.items()
    ]
    return "\n".join(("| variable | default | what it is for |", "|---|---|---|", *rows))


def _default(field: FieldInfo) -> str:
    match field.default:
        case bool(value):
            return str(value).lower()
        case list(values):
            return ",".join(values)
        case value:
            return str(value)
