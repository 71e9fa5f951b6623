"""Whether a file is a document of OpenAPI 3.1, and every reference in it leads somewhere."""

import json
import sys

import jsonschema_rs
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR


def target(document, reference):
    found = document
    for part in reference.removeprefix("#/").split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        found = found.get(part) if isinstance(found, dict) else None
    return found


def references(value, path=""):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield path, value["$ref"]
        for name, inner in value.items():
            yield from references(inner, f"{path}/{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner, path)


with open(sys.argv[1], encoding="utf-8") as file:
    document = json.load(file)
faults = [f"{error.instance_path}: {error.message[:200]}" for error in OPENAPI_31_VALIDATOR.iter_errors(document)]
faults += [f"{path}: {ref} leads nowhere" for path, ref in references(document) if target(document, ref) is None]
for name, schema in document["components"]["schemas"].items():
    try:
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    except Exception as error:  # of whatever kind, it is no schema
        faults.append(f"schema {name}: {error}")
print("\n".join(faults))
sys.exit(bool(faults))
