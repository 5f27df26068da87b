"""The form of the profile page."""

import unicodedata
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from approvals import keymap
from approvals.models import Profile

KEY = "key."
SYSTEM = gettext_lazy("As the system")


class KeyField(forms.CharField):
    """One character, or nothing; as the browser names it, without Shift."""

    def __init__(self, action: keymap.Action) -> None:
        super().__init__(label=action.label, required=False, strip=True)
        self.action = action

    def clean(self, value: Any) -> str:
        key = unicodedata.normalize("NFC", super().clean(value))
        key = key.lower() if len(key.lower()) == 1 else key
        if len(key) > 1 or not key.isprintable():
            raise forms.ValidationError(_("A key is one character."))
        if key.isdigit():
            raise forms.ValidationError(_("Figures go to the calls of a question."))
        return key


class ProfileForm(forms.Form):
    theme = forms.ChoiceField(
        choices=[("", SYSTEM), ("light", gettext_lazy("Light")), ("dark", gettext_lazy("Dark"))],
        required=False,
        widget=forms.RadioSelect,
    )
    density = forms.ChoiceField(
        choices=[("", gettext_lazy("With an excerpt")), ("two", gettext_lazy("Two lines"))],
        required=False,
        widget=forms.RadioSelect,
    )
    language = forms.ChoiceField(required=False, widget=forms.Select(attrs={"class": "in"}))
    keys_on = forms.BooleanField(required=False)
    notify = forms.BooleanField(required=False)
    sound = forms.BooleanField(required=False)
    stays = forms.BooleanField(required=False)

    def __init__(self, profile: Profile, data: Any = None) -> None:
        keys = keymap.keys_of(profile.keys)
        plain = {name: getattr(profile, name) for name in self.base_fields}
        super().__init__(data, initial=plain | {KEY + name: key for name, key in keys.items()})
        language: Any = self.fields["language"]
        language.choices = [("", _("As the browser")), *settings.LANGUAGES]
        for action in keymap.CHANGEABLE:
            self.fields[KEY + action.name] = KeyField(action)

    @property
    def key_groups(self) -> list[tuple[Any, list[Any]]]:
        """The fields of the keys, in the groups of the help sheet."""
        groups: dict[Any, list[Any]] = {}
        for action in keymap.CHANGEABLE:
            groups.setdefault(action.group, []).append(self[KEY + action.name])
        return list(groups.items())

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        owners: dict[str, keymap.Action] = {}
        for action in keymap.CHANGEABLE:
            key = cleaned.get(KEY + action.name, "")
            first = owners.setdefault(key, action) if key else action
            if first is not action:
                wrong = _("“%(key)s” is already the key of: %(action)s.")
                said = wrong % {"key": key.upper(), "action": first.label}
                self.add_error(KEY + action.name, said)
        return cleaned

    @property
    def values(self) -> dict[str, Any]:
        """Of a valid form: the profile's fields."""
        keys = {one.name: self.cleaned_data[KEY + one.name] for one in keymap.CHANGEABLE}
        plain = {name: self.cleaned_data[name] for name in self.base_fields}
        return plain | {"keys": keymap.unusual(keys)}
