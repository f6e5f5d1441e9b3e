"""
What the forms of the Prefect UI are made from: the JSON schemas of knobs.
"""

from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer


def without_null(schema: dict[str, Any]) -> None:
    """
    Take null out of a form's *schema*: what is left empty is not sent. With it the form asks for “str” or “None”.
    """
    for knob in schema.get("properties", {}).values():
        kinds = [kind for kind in knob.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del knob["anyOf"]
            knob |= kinds[0]
            if knob.get("default", "") is None:
                del knob["default"]


class Sparse(BaseModel):
    """
    Tells what is set: in the form of a deployment a null would stand for what is empty.
    """

    @model_serializer(mode="wrap")
    def _told(self, told: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in told(self).items() if value is not None}
