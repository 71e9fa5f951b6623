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
