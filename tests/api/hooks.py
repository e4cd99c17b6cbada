"""What the run knows and the description cannot say: which things there are, so that calls find some,
and which the run stands on, so that no call takes them away."""

import json
import os
import re
import uuid

import requests
import schemathesis

URL = os.environ["KEYGATE_API_URL"]
TOKEN = os.environ["KEYGATE_API_TOKEN"]
ADMIN = {"Authorization": f"Bearer {os.environ['KEYGATE_API_ADMIN_TOKEN']}"}
# {"path": {"/api/v1/keys/{id}": [..]}, "field": {"client": [..]}}
THINGS = json.loads(os.environ["KEYGATE_API_THINGS"])
# Operators and roles that the run stands on, and what is acted on instead.
PROTECTED = json.loads(os.environ["KEYGATE_API_PROTECTED"])
# The client that calls below /client/v1, and its session.
CLIENT = json.loads(os.environ["KEYGATE_API_CLIENT"])
CLIENT_TOKEN = os.environ["KEYGATE_API_CLIENT_TOKEN"]
# The operator whose tokens are spent by signing out.
LEAVER = os.environ["KEYGATE_API_LEAVER"]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """An id is any text to the description; here it is often one of something that is there."""
    for path, item in raw_schema["paths"].items():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                prefix = f"{path.split('{' + parameter['name'] + '}')[0]}{{{parameter['name']}}}"
                known = THINGS["path"].get(prefix) if parameter["in"] == "path" else None
                if known:
                    parameter["schema"] = often(known, parameter["schema"])
    for schema in raw_schema["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            known = THINGS["field"].get(name)
            if not known:
                continue
            if isinstance(field.get("items"), dict) and field["items"].get("type") == "string":
                field["items"] = often(known, field["items"])
            elif field.get("type") in ("string", ["string", "null"]) and "enum" not in field:
                schema["properties"][name] = often(known, field)


def often(known, schema):
    return {"anyOf": [{"enum": known}, schema]}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Calls that would end the run's own tokens or power act on somebody else."""
    for name, value in (case.path_parameters or {}).items():
        # A role's name means the same in both cases.
        instead = PROTECTED.get(str(value).lower())
        if instead is not None:
            case.path_parameters[name] = instead
    # A key drawn twice would have one call answered with what became of another.
    if re.fullmatch(r'"?[!#-\[\]-~]{1,128}"?', (case.headers or {}).get("Idempotency-Key") or ""):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    operation = case.operation.definition.raw.get("operationId")
    presented = (case.headers or {}).get("Authorization")
    # The check `ignored_auth` sends no token, or a wrong one: those stay as they are.
    if operation == "operators_sign_out" and presented == f"Bearer {TOKEN}":
        case.headers["Authorization"] = f"Bearer {token_of_leaver()}"
    if operation == "client_portal_sign_out" and presented == f"Bearer {CLIENT_TOKEN}":
        case.headers["Authorization"] = f"Bearer {another_session()}"


def another_session():
    # From elsewhere than the wrong passwords that are tried.
    headers = {"x-caller-address": "192.0.2.1"}
    answer = requests.post(f"{URL}/client/v1/session", json=CLIENT, headers=headers, timeout=10)
    answer.raise_for_status()
    return answer.json()["token"]


def token_of_leaver():
    answer = requests.post(
        f"{URL}/api/v1/operators/{LEAVER}/tokens", json={"name": "leaver"}, headers=ADMIN, timeout=10
    )
    answer.raise_for_status()
    return answer.json()["token"]
