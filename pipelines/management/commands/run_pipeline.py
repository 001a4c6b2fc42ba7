"""`manage.py run_pipeline`."""

import argparse
import math
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from deadletters.models import DeadLetter
from deadletters.secrets.redact import redactor
from pipelines import registry, runs
from pipelines.graph import NotACanvas
from pipelines.models import Run
from pipelines.runs import Progress
from pipelines.states import LABELS, Overall, State
from pipelines.words import as_json

EPILOG = """examples:
  manage.py run_pipeline arithmetic --wait
  manage.py run_pipeline arithmetic --param shape=group --wait --json
  manage.py run_pipeline images --param urls=https://a.example/1.jpg,https://a.example/2.jpg --param size=400x300
  manage.py run_pipeline images --param urls=https://a.example/1.jpg --wait --timeout 120

exit status:
  0  started; with --wait: succeeded
  1  with --wait: a step died, the run was cancelled, or the time was up
  2  unknown pipeline, bad parameter, or the run could not be sent

`manage.py list_pipelines` shows names and parameters. A list is separated by commas, or its --param is given several times."""

# Characters of the bar on a terminal.
BAR = 30
# Dead steps that are named at the end.
NAMED = 10


class Command(BaseCommand):
    help = "Start a pipeline; with --wait follow it to its end and print what it returned."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the pipeline")
        parser.add_argument(
            "--param",
            metavar="NAME=VALUE",
            action="append",
            default=[],
            type=_pair,
            help="one parameter; may be repeated",
        )
        parser.add_argument("--wait", action="store_true", help="follow the run until nothing moves any more")
        parser.add_argument(
            "--timeout", type=_seconds, metavar="SECONDS", help="with --wait: give up waiting after this"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["timeout"] is not None and not options["wait"]:
            raise CommandError("--timeout needs --wait.", returncode=2)
        run = _start(options["name"], options["param"])
        if not options["wait"]:
            self._say(run, options, f"Started {run}: {_address(run)}")
            return
        progress = self._follow(run, options)
        returned = runs.result(run) if progress.overall is Overall.SUCCEEDED else None
        self._say(run, options, as_json(returned), progress=progress, returned=returned)
        if progress.overall is not Overall.SUCCEEDED:
            raise CommandError(_failure(run, progress), returncode=1)

    def _follow(self, run: Run, options: dict[str, Any]) -> Progress:
        drawn = self.stderr.isatty() and not options["json"]
        progress = None
        try:
            for progress in runs.follow(run, timeout=options["timeout"]):
                if drawn:
                    self.stderr.write(f"\r\x1b[K{_bar(progress)}", style_func=str, ending="")
        except TimeoutError:
            text = f"Run {run} is not done after {options['timeout']:g} s; it goes on: {_address(run)}"
            self._say(run, options, "", progress=progress)
            raise CommandError(text, returncode=1) from None
        except KeyboardInterrupt:
            raise CommandError(f"Stopped waiting. Run {run} goes on: {_address(run)}", returncode=130) from None
        finally:
            if drawn:
                self.stderr.write("")
        assert progress is not None  # follow() gives one at least
        return progress

    def _say(
        self, run: Run, options: dict[str, Any], text: str, *, progress: Progress | None = None, returned: object = None
    ) -> None:
        if not options["json"]:
            if progress is None or progress.overall is Overall.SUCCEEDED:
                self.stdout.write(text)
            return
        said: dict[str, object] = {"run": str(run.pk), "pipeline": run.pipeline, "parameters": redactor().value(run.parameters), "url": _address(run)}  # fmt: skip
        if progress is not None:
            said |= {"state": progress.overall.value, "steps": {state.value: n for state, n in progress.counts.items()}}
            said["result"] = returned
        self.stdout.write(as_json(said))


def _start(name: str, pairs: list[tuple[str, str]]) -> Run:
    try:
        pipeline = registry.get(name)
        return runs.start(name, pipeline.parse(_raw(pipeline, pairs)), origin=Run.Origin.COMMAND)
    except (registry.UnknownPipeline, registry.BadParameter, NotACanvas, runs.NotSent) as refusal:
        raise CommandError(str(refusal), returncode=2) from refusal


def _raw(pipeline: registry.Pipeline, pairs: list[tuple[str, str]]) -> dict[str, str]:
    """{name: text}; a list's items may come one by one.

    Raises:
        BadParameter: another parameter came twice.
    """
    lists = [parameter.name for parameter in pipeline.parameters if parameter.annotation == list[str]]
    raw: dict[str, str] = {}
    for name, text in pairs:
        if name in raw and name not in lists:
            raise registry.BadParameter(name, "is given twice")
        raw[name] = f"{raw[name]}\n{text}" if name in raw else text
    return raw


def _failure(run: Run, progress: Progress) -> str:
    counted = ", ".join(f"{number} {LABELS[state]}" for state, number in progress.counts.items())
    lines = [f"Run {run} {LABELS[progress.overall]}: {counted}. {_address(run)}"]
    letters = DeadLetter.objects.open().filter(task_id__in=run.steps.values("task_id")).order_by("died_at")
    named = letters.only("pk", "task_name", "exception_type", "exception_message")[:NAMED]
    lines += [f"  dead letter {letter.pk}: {letter.task_name}: {letter.exception_type} {letter.exception_message[:200]}" for letter in named]  # fmt: skip
    return "\n".join(lines)


def _bar(progress: Progress) -> str:
    full = progress.percent * BAR // 100
    dead = f" · {progress.dead} dead" if progress.dead else ""
    running = f" · {progress.counts[State.RUNNING]} running" if progress.counts[State.RUNNING] else ""
    return f"[{'#' * full}{'.' * (BAR - full)}] {progress.succeeded}/{progress.total}{running}{dead}"


def _address(run: Run) -> str:
    return settings.SITE_URL + reverse("admin:pipelines_run_change", args=[run.pk])


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} must look like NAME=VALUE")
    return name.strip(), value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds
