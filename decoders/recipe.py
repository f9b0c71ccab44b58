"""Numbers of a model's recipe as a user gives them (`--set KEY=VALUE`): what is wrong with one, in words."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rig.errors import ConfigError

RECIPE = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
"""What every recipe is: numbers that are there and stay, and no others."""
AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)
_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a word"}
_LISTS = {"integer": "a list of whole numbers", "string": "a list of words"}
_LIMITS = {
    "minimum": "of {:g} or more",
    "exclusiveMinimum": "above {:g}",
    "maximum": "of {:g} or less",
    "exclusiveMaximum": "below {:g}",
}


def checked(recipe: type[AnyRecipe], given: Mapping[str, Any]) -> AnyRecipe:
    """Make a recipe of what is given, and its own numbers for the rest.

    Raises
    ------
    ConfigError
        For a name that the recipe does not have, or a value that it cannot take.
    """
    try:
        return recipe.model_validate(dict(given))
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
    if name in recipe.model_fields:
        raise ConfigError(f"setting {name}={given[name]}: valid is {valid_words(recipe, name)}")
    close = difflib.get_close_matches(name, recipe.model_fields, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ConfigError(
        f"setting {name}={given[name]}: no such name; {hint}valid: {', '.join(recipe.model_fields)}"
    )


def valid_words(recipe: type[BaseModel], name: str) -> str:
    """What a setting can be: "a whole number of 1 or more"."""
    schema = recipe.model_json_schema()["properties"][name]
    return " or ".join(_words(choice) for choice in schema.get("anyOf", [schema]))


def _words(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if "enum" in schema or kind == "null":
        return " or ".join(schema.get("enum", ["null"]))
    if kind == "array":
        items = schema.get("items", {})
        return _limited(_LISTS.get(items.get("type"), "a list"), items)
    if schema.get("format") == "path":
        return "a file"
    return _limited(_KINDS.get(str(kind), "a value"), schema)


def _limited(what: str, schema: Mapping[str, Any]) -> str:
    limits = [words.format(schema[key]) for key, words in _LIMITS.items() if key in schema]
    return " ".join([what, " and ".join(limits)]).strip()
