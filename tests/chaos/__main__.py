"""`python -m tests.chaos --help`."""

import argparse
import json
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path


def main() -> int:
    """Exit 0: every task is accounted for; 1: not (what is wrong is printed, logs are kept); 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--minutes", type=float, default=5, help="How long things are killed (default 5).")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--seed", type=int, default=None, help="Repeats the same choices; printed when left out.")
    parser.add_argument("--workers", type=int, default=3, help="Workers of two processes each (default 3).")
    parser.add_argument(
        "--kill",
        nargs="+",
        metavar="WHAT",
        help="Only these: child, worker, 'stopped worker', postgresql, broker, beat.",
    )
    parser.add_argument("--pause", type=float, default=3, help="Seconds between two kills on average (default 3).")
    parser.add_argument("--rate", type=float, default=5, help="Canvases a second (default 5).")
    parser.add_argument(
        "--keep", type=Path, help="Where logs and the ledger go; a temporary folder when something is wrong."
    )
    parser.add_argument("--json", action="store_true", help="Print the report as JSON, last.")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}, {options.broker}, {options.minutes:g} min", flush=True)

    from tests.chaos.stage import platform

    keep = options.keep or Path(tempfile.mkdtemp(prefix="redeliver-soak-logs-"))
    with platform(options.broker, workers=options.workers, keep=keep) as stage:
        from tests.chaos.soak import soak

        report = soak(
            stage, seed=seed, kill=options.kill, seconds=options.minutes * 60, pause=options.pause, rate=options.rate,
            say=lambda line: print(line, flush=True),
        )  # fmt: skip
    print(_table(report))
    if not report.passed:
        print(f"Logs and ledger: {keep}")
    if options.json:
        print(json.dumps({**asdict(report), "passed": report.passed}))
    return 0 if report.passed else 1


def _table(report) -> str:
    from tests.chaos.account import ENDS, WRONGS

    accounts = (report.under_fire, report.replayed)
    rows = [("", "under fire", "replayed")]
    rows += [(end, *(account.ends.get(end, 0) for account in accounts)) for end in ENDS]
    rows += [(wrong, *(len(getattr(account, wrong)) for account in accounts)) for wrong in WRONGS]
    lines = [f"{name:<12}{before:>12}{after:>12}" for name, before, after in rows]
    lines.append(f"{report.repeated} tasks finished more than once (delivery is at least once).")
    for account in accounts:
        lines += [f"{name}: {words}" for name, found in account.wrong.items() for words in found[:20]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
