"""The long form of tests/worker/test_beat_storm.py: three beats, and whoever leads is killed, stopped or cut off.

python -m tests.chaos_beat --minutes 10
python -m tests.chaos_beat --minutes 10 --broker rabbitmq
"""

import argparse
import os
import sys

import pytest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    told = parser.parse_args()
    os.environ["REDELIVER_STORM_SECONDS"] = str(told.minutes * 60)
    return pytest.main(["-q", "tests/worker/test_beat_storm.py", "-k", f"on_{told.broker}"])


if __name__ == "__main__":
    sys.exit(main())
