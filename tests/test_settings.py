import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_a_mail_server_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setenv("EMAIL_URL", "smtp://user:password@mail.example.com:587/?tls=True")
    command = "from django.conf import settings; print(settings.EMAIL_TIMEOUT, settings.EMAIL_USE_TLS)"
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["10", "True"]
