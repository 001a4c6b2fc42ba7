"""`manage.py list_pipelines`."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from pipelines.registry import Parameter, all_pipelines

EPILOG = """examples:
  manage.py list_pipelines
  manage.py list_pipelines --json | jq -r '.[].name'

Start one with `manage.py run_pipeline NAME`."""


class Command(BaseCommand):
    help = "List the pipelines that can be started, with their parameters."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["json"]:
            listed = [
                {
                    "name": pipeline.name,
                    "summary": pipeline.summary,
                    "parameters": [_json(p) for p in pipeline.parameters],
                }
                for pipeline in all_pipelines()
            ]
            self.stdout.write(json.dumps(listed, indent=2, ensure_ascii=False))
            return
        for pipeline in all_pipelines():
            self.stdout.write(f"{pipeline.name}\n  {pipeline.summary}")
            for parameter in pipeline.parameters:
                self.stdout.write(f"  {_line(parameter)}")


def _json(parameter: Parameter) -> dict[str, object]:
    described = {"name": parameter.name, "type": _type(parameter), "required": parameter.required, "help": str(parameter.help)}  # fmt: skip
    return described if parameter.required else {**described, "default": parameter.default}


def _line(parameter: Parameter) -> str:
    default = "required" if parameter.required else f"default {json.dumps(parameter.default, ensure_ascii=False)}"
    return f"--param {parameter.name}=…  {_type(parameter)}, {default}. {parameter.help}".rstrip()


def _type(parameter: Parameter) -> str:
    if parameter.choices:
        return "|".join(map(str, parameter.choices))
    return "list of str" if parameter.annotation == list[str] else str(parameter.annotation.__name__)
