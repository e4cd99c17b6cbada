"""Holds the running manager against its own description, on SQLite and on PostgreSQL: as the
administrator and as an operator without any role; what is below /client/v1 as a client and a visitor.

    python run.py --manager target/debug/keygate --postgres postgres://…/postgres --examples 20

Started by `cargo xtask test --only api`, which installs what it needs.
"""

import argparse
import email
import email.policy
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pg8000.native
import requests
from openapi_spec_validator import validate

HERE = Path(__file__).parent
START_LIMIT_S = 60
MAIL_LIMIT_S = 60
ROLES = ["admin", "nobody", "client"]
# Clients have an API of their own, which takes no operator's token.
CLIENTS_PATHS = "^/client/v1/"
# The client that calls. No call finds its id, so that none ends it.
CALLER = "caller"
PASSWORD = "correct horse"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--manager", required=True, type=Path)
    arguments.add_argument("--postgres", required=True, help="a server on which databases may be created")
    arguments.add_argument("--examples", type=int, default=20, help="per operation and phase")
    arguments.add_argument("--only-database", choices=["sqlite", "postgres"])
    arguments.add_argument("--only-role", choices=ROLES)
    arguments.add_argument("--operations", help="a regular expression of operation ids")
    arguments = arguments.parse_args()
    failed = []
    for database in ["sqlite", "postgres"]:
        if arguments.only_database not in (None, database):
            continue
        for role in ROLES:
            if arguments.only_role in (None, role):
                print(f"==> {database}, {role}", flush=True)
                if not hold(arguments, database, role):
                    failed.append(f"{database} as {role}")
    if failed:
        sys.exit(f"the API is not as it is described: {', '.join(failed)}")


def hold(arguments, database, role):
    """One run on a manager and a database of its own."""
    with tempfile.TemporaryDirectory(prefix="keygate-api-") as folder, Manager(arguments, database, folder) as manager:
        world = World(manager)
        document = requests.get(f"{manager.url}/api/v1/openapi.json", timeout=10).json()
        validate(document)
        environment = os.environ | {
            "KEYGATE_API_URL": manager.url,
            "KEYGATE_API_ADMIN_TOKEN": world.admin_token,
            "KEYGATE_API_TOKEN": world.admin_token if role == "admin" else world.nobody_token,
            "KEYGATE_API_CLIENT": json.dumps({"client": CALLER, "password": PASSWORD}),
            "KEYGATE_API_CLIENT_TOKEN": world.client_token,
            "KEYGATE_API_VISITOR_TOKEN": world.visitor_token,
            "KEYGATE_API_LEAVER": world.leaver,
            "KEYGATE_API_PROTECTED": json.dumps(world.protected),
            "KEYGATE_API_THINGS": json.dumps(world.things),
            "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
        }
        command = [
            Path(sys.executable).with_name("schemathesis"),
            "--config-file", HERE / "schemathesis.toml",
            "run", f"{manager.url}/api/v1/openapi.json",
            "--max-examples", str(arguments.examples),
            "--checks", "all",
            "--include-path-regex" if role == "client" else "--exclude-path-regex", CLIENTS_PATHS,
        ]
        if arguments.operations:
            command += ["--include-operation-id-regex", arguments.operations]
        ended = subprocess.run(command, env=environment, cwd=folder)
        return ended.returncode == 0 and manager.is_well()


class Manager:
    """`keygate serve` on an empty database."""

    def __init__(self, arguments, database, folder):
        self.program = arguments.manager.resolve()
        self.folder = Path(folder)
        self.mails = self.folder / "mails"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self.server, self.name = arguments.postgres, None
        database_url = f"sqlite:{self.folder / 'keygate.db'}"
        if database == "postgres":
            self.name = f"keygate_api_{uuid.uuid4().hex[:12]}"
            self.sql(f"CREATE DATABASE {self.name}")
            database_url = f"{arguments.postgres.rsplit('/', 1)[0]}/{self.name}"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYGATE_")} | {
            "KEYGATE_LISTEN": self.address,
            "KEYGATE_DATABASE_URL": database_url,
            "KEYGATE_LOG_FILTER": "warn",
            "KEYGATE_CLIENT_REGISTRATION": "true",
            # The run's own sign-ins come from elsewhere than the wrong passwords that it tries.
            "KEYGATE_CLIENT_ADDRESS_HEADER": "x-caller-address",
            "KEYGATE_CLIENT_ADDRESS_PROXIES": "127.0.0.1",
            "KEYGATE_MAIL_TRANSPORT": "file",
            "KEYGATE_MAIL_FILE_DIR": str(self.mails),
        }

    def __enter__(self):
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(
            [self.program, "serve"], cwd=self.folder, env=self.environment, stdout=self.log, stderr=self.log
        )
        for _ in range(START_LIMIT_S * 10):
            if self.process.poll() is not None:
                break
            try:
                if requests.get(f"{self.url}/readyz", timeout=5).ok:
                    return self
            except requests.ConnectionError:
                time.sleep(0.1)
        self.__exit__()
        sys.exit(f"the manager does not start:\n{(self.folder / 'log').read_text()}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        if self.name:
            self.sql(f"DROP DATABASE {self.name} WITH (FORCE)")

    def run(self, *arguments):
        return subprocess.run(
            [self.program, *arguments], cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def is_well(self):
        """Nothing that the manager calls an error was logged."""
        errors = [line for line in (self.folder / "log").read_text().splitlines() if "ERROR" in line]
        print("\n".join(errors[:20]), file=sys.stderr)
        return not errors and self.process.poll() is None

    def sql(self, sql):
        server = urlsplit(self.server)
        connection = pg8000.native.Connection(
            server.username, host=server.hostname, port=server.port or 5432, password=server.password,
            database=server.path.lstrip("/"),
        )
        try:
            connection.run(sql)
        finally:
            connection.close()


class World:
    """One of each thing, so that calls find something; and those who call."""

    def __init__(self, manager):
        self.url = manager.url
        printed = manager.run("operator", "create", "root", "--role", "admin", "--token", "run")
        self.admin = re.search(r"operator: .* \((\S+)\)", printed)[1]
        self.admin_token = re.search(r"token: (\S+)", printed)[1]
        self.nobody = self.operator("nobody")
        # Nobody can be issued a token by somebody else: it could do nothing.
        issued = manager.run("operator", "issue-token", "nobody", "--token", "run")
        self.nobody_token = re.search(r"token: (\S+)", issued)[1]
        self.leaver = self.operator("leaver", "reviewer_2")
        self.stand_in = self.operator("stand_in")
        # Whoever signs the forms that are sent off, which the administrator files.
        for name in ["reviewer_1", "reviewer_2"]:
            self.operator(name, name)
        # What a call must not act on, and what it acts on instead.
        self.protected = {
            self.admin: self.stand_in, self.nobody: self.stand_in, self.leaver: self.stand_in, "admin": "auditor",
        }
        self.things = self.make_things()
        self.client_token = self.make_caller()
        self.visitor_token = self.make_visitor(manager)

    def make_things(self):
        """Their ids, by path and by the fields that name them."""
        soon = (date.today() + timedelta(days=30)).isoformat()
        made = {name: [] for name in ["api", "group", "client", "key", "x_api_key", "gateway", "form"]}
        for number in range(1, 6):
            api = self.post("apis", {
                "module": "shop", "id": f"orders{number}", "path": {"prefix": f"/orders{number}"}, "accepts": ["dgrk"],
            })["uid"]
            group = self.post("groups", {"name": f"shop{number}", "apis": [api]})["id"]
            client = self.post("clients", {
                "name": f"acme{number}", "display_name": f"Acme {number}", "note": "a client",
                "password": "correct horse", "password_confirmation": "correct horse",
                "emails": "it@example.com", "groups": [group],
            })["id"]
            key = self.post("keys/import", {
                "client": client, "api_key": f"YjQxYjQ{number}", "secret_key": "c2VjcmV0", "name": "orders",
                "expiry_date": soon, "quota": 100, "apis": [api],
            })["id"]
            x_api_key = self.post("x-api-keys", {
                "client": client, "alias": "orders", "expiry_date": soon, "groups": [group],
            })["id"]
            gateway = self.post("gateways", {"name": f"edge{number}"})["gateway"]
            for kind in ["KA", "KU", "KR", "CR"]:
                self.call("PUT", f"approval-flows/{kind}", {"levels": [["reviewer_1", "admin"], ["reviewer_2"]]})
            form = self.post("applications", {
                "type": "KA", "client": client, "name": "orders", "effective_date": date.today().isoformat(),
                "expiry_date": soon, "quota": 100, "description": "to order", "apis": [api],
            })["id"]
            if number > 2:
                self.call("POST", f"applications/{form}/submit", None)
            for kind, thing in [
                ("api", api), ("group", group), ("client", client), ("key", key), ("x_api_key", x_api_key),
                ("gateway", gateway), ("form", form),
            ]:
                made[kind].append(thing)
        mails = [mail["id"] for mail in self.call("GET", "mails", None)["items"]]
        return {
            "path": {
                "/api/v1/apis/{uid}": made["api"],
                "/api/v1/applications/{id}": made["form"],
                "/api/v1/approval-flows/{type}": ["KA", "KU", "KR", "CR"],
                "/api/v1/clients/{id}": made["client"],
                "/api/v1/gateways/{gateway}": made["gateway"],
                "/api/v1/groups/{id}": made["group"],
                "/api/v1/keys/{id}": made["key"],
                "/api/v1/mails/{id}": mails,
                "/api/v1/operators/{id}": [self.stand_in],
                "/api/v1/roles/{name}": ["auditor", "reviewer_1"],
                "/api/v1/x-api-keys/{id}": made["x_api_key"],
            },
            "field": {
                "client": made["client"], "key": made["key"], "apis": made["api"], "groups": made["group"],
                "roles": ["auditor", "reviewer_1"], "permissions": ["audit.read", "clients.read"],
                "password": ["correct horse"], "password_confirmation": ["correct horse"],
            },
        }

    def make_caller(self):
        """A client with something of everything, signed in."""
        api, group = self.things["path"]["/api/v1/apis/{uid}"][0], self.things["path"]["/api/v1/groups/{id}"][0]
        soon = (date.today() + timedelta(days=30)).isoformat()
        self.post("clients", {
            "id": CALLER, "name": CALLER, "display_name": "Caller", "note": "calls",
            "password": PASSWORD, "password_confirmation": PASSWORD, "emails": "it@example.com", "groups": [group],
        })
        keys = [
            self.post("keys/import", {
                "client": CALLER, "api_key": f"YjQxYjR{number}", "secret_key": "c2VjcmV0", "name": "orders",
                "expiry_date": soon, "quota": 100, "apis": [api],
            })["id"]
            for number in range(3)
        ]
        self.post("x-api-keys", {"client": CALLER, "alias": "orders", "expiry_date": soon, "groups": [group]})
        session = self.client_call("POST", "session", {"client": CALLER, "password": PASSWORD}, None)["token"]
        forms = []
        for number in range(5):
            form = self.client_call("POST", "applications", {
                "type": "KA", "name": "orders", "effective_date": date.today().isoformat(), "expiry_date": soon,
                "quota": 100, "description": "to order", "apis": [api],
            }, session)["id"]
            if number > 2:
                self.client_call("POST", f"applications/{form}/submit", None, session)
            forms.append(form)
        self.things["path"] |= {
            "/client/v1/apis/{uid}": self.things["path"]["/api/v1/apis/{uid}"],
            "/client/v1/applications/{id}": forms,
            "/client/v1/keys/{id}": keys,
        }
        self.things["field"]["key"] = self.things["field"]["key"] + keys
        return session

    def make_visitor(self, manager):
        """Somebody who has asked for a client, and follows the form."""
        self.client_call("POST", "registrations", {
            "name": "visitor", "display_name": "Visitor", "description": "to order", "emails": "visitor@example.com",
        }, None)
        for _ in range(MAIL_LIMIT_S * 10):
            for file in manager.mails.glob("*.eml"):
                mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
                told = re.search(r"\bkgr_[A-Za-z0-9_-]{43}", mail.get_body(("plain",)).get_content())
                if told and mail["To"] == "visitor@example.com":
                    confirmed = self.client_call("POST", "registrations/confirm", {"token": told[0]}, None)
                    return confirmed["token"]
            time.sleep(0.1)
        sys.exit("the visitor got no mail")

    def client_call(self, method, path, body, token):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = requests.request(method, f"{self.url}/client/v1/{path}", json=body, headers=headers, timeout=30)
        if not answer.ok:
            sys.exit(f"the world cannot be made: {method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def operator(self, name, *roles):
        return self.post("operators", {"name": name, "email": f"{name}@example.com", "roles": list(roles)})["id"]

    def post(self, path, body):
        return self.call("POST", path, body)

    def call(self, method, path, body):
        answer = requests.request(
            method, f"{self.url}/api/v1/{path}", json=body, headers={"Authorization": f"Bearer {self.admin_token}"},
            timeout=30,
        )
        if not answer.ok:
            sys.exit(f"the world cannot be made: {method} {path}: {answer.status_code} {answer.text}")
        return answer.json()


if __name__ == "__main__":
    main()
