"""What the document can't say about requests."""

import schemathesis


def whole(value):
    """JSON Schema calls 5.0 a whole number, and the API does not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return value


@schemathesis.hook
def map_body(context, body):
    return whole(body)


@schemathesis.hook
def after_call(context, case, response):
    """Notes which operations have ever answered what they are for."""
    if response.status_code < 300:
        with open("succeeded.txt", "a", encoding="utf-8") as file:
            file.write(f"{case.operation.definition.raw['operationId']}\n")
