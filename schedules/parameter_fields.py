"""The part of the form that shows a task's parameters: one field each, beside the same call as JSON."""

import json
from typing import Any

from django import forms
from django.utils.translation import gettext, gettext_lazy

from schedules.parameters import Parameter, Unfit, fold, parameters_of, unfold

MODES = (("form", gettext_lazy("One field each")), ("json", gettext_lazy("JSON")))
PREFIX = "p-"


class ParameterFields(forms.Form):
    """Which of the two was filled in is in `arguments`; `json` when it is not said."""

    arguments = forms.ChoiceField(
        label=gettext_lazy("Arguments"), choices=MODES, required=False, widget=forms.RadioSelect, initial="form"
    )

    def add_parameter_fields(self) -> None:
        """Add a field for each parameter of the task that is typed in or saved."""
        # A form without a task is shown to somebody who may only look.
        self.parameters = parameters_of(str(self["task"].value() or "")) if "task" in self.fields else []
        self.unfolded = self._unfolded()
        if self.unfolded is None:
            self.initial["arguments"] = "json"
        for one in self.parameters:
            self.fields[PREFIX + one.name] = _field(one)
            self.initial[PREFIX + one.name] = (self.unfolded or {}).get(one.name, "")

    @property
    def parameter_fields(self) -> list[forms.BoundField]:
        """For the template."""
        return [self[PREFIX + one.name] for one in self.parameters]

    def read_parameters(self, data: dict[str, Any]) -> None:
        """Put what the fields say into `args` and `kwargs`, where the fields are what was filled in."""
        if data.get("arguments") != "form":
            return
        beside = data.pop("args", None), data.pop("kwargs", None)
        for name in ("args", "kwargs"):
            self.errors.pop(name, None)
        values = self._values(data)
        if values is not None:
            same = self._says_the_same(data.get("task", ""), *beside, values)
            data["args"], data["kwargs"] = beside if same else fold(data.get("task", ""), values)

    def _says_the_same(self, task: str, args: Any, kwargs: Any, values: dict[str, Any]) -> bool:
        """Whether the JSON beside the fields is this call already: then it stays by position or by name, as it was written."""
        try:
            shown = unfold(task, args, kwargs)
        except (Unfit, TypeError):
            return False
        read = {one.name: one.read(shown[one.name]) for one in self.parameters if one.name in shown}
        return json.dumps(read) == json.dumps({name: values[name] for name in read if name in values}) and len(
            read
        ) == len(values)

    def _values(self, data: dict[str, Any]) -> dict[str, Any] | None:
        values = {}
        for one in self.parameters:
            name, text = PREFIX + one.name, data.get(PREFIX + one.name, "").strip()
            if text:
                try:
                    values[one.name] = one.read(text)
                except ValueError as problem:
                    self.add_error(name, str(problem))
            elif one.required:
                self.add_error(name, gettext("It is needed."))
        return None if any(PREFIX + one.name in self.errors for one in self.parameters) else values

    def _unfolded(self) -> dict[str, str] | None:
        """What the fields show of the saved call; None when they cannot."""
        task = str(self["task"].value() or "") if "task" in self.fields else ""
        if not task:
            return {}
        try:
            args, kwargs = (self.fields[name].clean(self.initial.get(name, "")) for name in ("args", "kwargs"))
            return unfold(task, args, kwargs)
        except (Unfit, forms.ValidationError):
            return None


def _field(one: Parameter) -> forms.Field:
    label = {"rest": f"*{one.name}", "others": f"**{one.name}"}.get(one.place, one.name)
    common: dict[str, Any] = {"label": label, "required": False, "help_text": one.hint}
    if one.kind == "truth":
        choices = [("", "–" if one.required else one.default), ("true", "true"), ("false", "false")]
        return forms.ChoiceField(**common, choices=choices)
    attrs = {"spellcheck": "false", "autocomplete": "off", "class": "" if one.kind == "text" else "o-mono"}
    return forms.CharField(**common, widget=forms.TextInput(attrs=attrs))
