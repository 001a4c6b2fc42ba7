"""The README's example works as it is printed."""

import re

from celery import current_app
from django.conf import settings

from pipelines import registry


def test_the_example_of_a_pipeline_runs():
    printed = (settings.BASE_DIR / "README.md").read_text()
    (code,) = re.findall(r"```python\n(from celery.*?)```", printed, re.DOTALL)
    names = {"__name__": "pipelines.greetings"}
    known = set(current_app.tasks)
    exec(code, names)
    try:
        made = registry.get("greetings")
        canvas = made.build(made.validate({"names": ["Ana", "Bo"]}))
        said = names["say"]([task.type(*task.args) for task in canvas.tasks])
        assert said == "Hello, Ana! Hello, Bo!"
        assert canvas.body.task == "pipelines.say"
    finally:
        registry._pipelines.pop("greetings", None)
        for name in set(current_app.tasks) - known:
            current_app.tasks.unregister(name)
