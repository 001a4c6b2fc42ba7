import json
from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from monitoring import dashboard, tiles

EXAMPLES = """examples:
  manage.py status            the dashboard's figures
  manage.py status --json     the same, for scripts

Exit status: 0 all is well, 1 something is wrong (the last lines say what), 2 PostgreSQL is away."""


class Command(BaseCommand):
    help = "Print how it is going: the figures of the dashboard."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.update(epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        figures = dashboard.figures()
        troubles = tiles.troubles(figures)
        if options["json"]:
            self.stdout.write(json.dumps({**dashboard.as_dict(figures), "troubles": troubles}, indent=2))
        else:
            for tile in tiles.tiles(figures):
                self.stdout.write(f"{tile.title:<20} {tile.value:>12}   {tile.note}")
            for trouble in troubles:
                self.stdout.write(f"! {trouble}")
        if troubles:
            raise SystemExit(1)
