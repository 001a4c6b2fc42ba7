"""Draw sample images."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from pipelines import samples

EXAMPLES = """
The start form of `images` offers three samples; mountain.jpg is missing, so that its fetch dies and leaves a dead letter.
Make it, replay the dead letter, and the run finishes.

examples:
  manage.py make_sample mountain.jpg      mend the broken address
  manage.py make_sample                   draw all samples again
"""


class Command(BaseCommand):
    help = "Draw sample images into the folder that /samples/ serves."

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="*", help=f"Which: {', '.join(samples.SCENES)}. Default: all.")

    def handle(self, **options: Any) -> None:
        try:
            for name in options["name"] or samples.SCENES:
                self.stdout.write(str(samples.make(name)))
        except samples.NoSuchSample as refusal:
            raise CommandError(str(refusal), returncode=2) from refusal
