"""The form that starts a pipeline, made from the pipeline's parameters."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _

from pipelines.registry import BadParameter, Parameter, Pipeline


class StartForm(forms.Form):
    """One field a parameter. After `is_valid()`, `parameters` are the typed values."""

    def __init__(self, pipeline: Pipeline, data: Any = None) -> None:
        super().__init__(data)
        self.pipeline = pipeline
        self.parameters: dict[str, object] = {}
        example = pipeline.example()
        for parameter in pipeline.parameters:
            self.fields[parameter.name] = _field(parameter, example.get(parameter.name))

    def clean(self) -> dict[str, Any]:
        for parameter in self.pipeline.parameters:
            if parameter.name not in self.errors:
                try:
                    self.parameters[parameter.name] = parameter.parse(self.cleaned_data[parameter.name])
                except BadParameter as refusal:
                    self.refuse(refusal)
        return self.cleaned_data

    def refuse(self, refusal: BadParameter) -> None:
        """Show at its field what the registry, or the pipeline itself, says of a value."""
        self.add_error(refusal.name if refusal.name in self.fields else None, refusal.reason)


def _field(parameter: Parameter, value: object) -> forms.CharField:
    """A text field whatever the type: the registry reads the text, for the command line and for the form alike."""
    return forms.CharField(
        required=False,
        strip=False,
        label=parameter.name.replace("_", " ").capitalize(),
        help_text=str(parameter.help),
        initial=_text(value),
        widget=_widget(parameter),
    )


def _widget(parameter: Parameter) -> forms.Widget:
    choices = parameter.choices or ((True, False) if parameter.annotation is bool else ())
    if choices:
        empty = [("", _("Choose…"))] if parameter.required else []
        return forms.Select(choices=[*empty, *((_text(choice), _text(choice)) for choice in choices)])
    if parameter.annotation == list[str]:
        return forms.Textarea(attrs={"rows": 5, "spellcheck": "false"})
    number = {int: "numeric", float: "decimal"}.get(parameter.annotation)
    return forms.TextInput(attrs={"inputmode": number} if number else {"spellcheck": "false"})


def _text(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
