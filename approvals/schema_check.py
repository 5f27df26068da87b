"""What a JSON Schema holds against an edited value, said beside the inputs it is about."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from jsonschema.exceptions import ValidationError, best_match

from approvals.plain import canonical
from approvals.schema_input import MISSING, TypedField
from approvals.schema_words import place, predicate
from approvals.schemas import validator


def check(root: TypedField, schema: Mapping[str, Any] | None, value: Any) -> None:
    """Adds to the `errors` of the tree. What was wrong with the original already may stay.

    A schema that cannot be used (a reference out of the document, a circle) holds nothing against
    anything; the inputs' own types were checked before.
    """
    if not schema:
        return
    try:
        before = {_fault(error) for error in _errors(schema, root.original)}
        wrong = [error for error in _errors(schema, value) if _fault(error) not in before]
    except Exception:
        return
    for error in wrong:
        _attach(root, error)


def _errors(schema: Mapping[str, Any], value: Any) -> Iterator[ValidationError]:
    if value is MISSING:
        return
    for error in validator(schema).iter_errors(value):
        yield best_match([error]) or error


def _fault(error: ValidationError) -> tuple[Any, ...]:
    """The same for the same mistake. A group is not compared: its other keys may have changed."""
    whole = "" if isinstance(error.instance, dict) else canonical(error.instance)
    return (*place(error), error.validator, whole)


def _attach(root: TypedField, error: ValidationError) -> None:
    path, made = place(error), root
    while path and (inner := _child(made, path[0])) is not None:
        made, path = inner, (path if inner.is_other else path[1:])
    where = ".".join(map(str, path))
    is_absent = error.validator == "required"
    words = _("Fill this in.") if is_absent else _("This %(wrong)s.") % {"wrong": predicate(error)}
    said = f"{where}: {words}" if where else words
    if said not in made.errors:
        made.errors.append(said)


def _child(made: TypedField, key: str | int) -> TypedField | None:
    named = next((each for each in made.fields if each.key == key and not each.is_other), None)
    return named or next((each for each in made.fields if each.is_other), None)
