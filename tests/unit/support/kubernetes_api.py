"""As much of Kubernetes' API as concerns one Secret, over TLS, with faults on demand.

kubernetes_api.py DIR PORT: DIR holds api.pem and api.key (the server's), token, secret.json (the object; absent: there
is none), and faults: one word a line, each for one request, used up in order; "ok" is none. Requests are noted in log.
https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/
"""

import base64
import http.server
import json
import pathlib
import ssl
import sys
import time

DIR = pathlib.Path(sys.argv[1])
OBJECT = DIR / "secret.json"
COLLECTION = "/api/v1/namespaces/web/secrets"
ITEM = COLLECTION + "/www-tls"


def load():
    return json.loads(OBJECT.read_text()) if OBJECT.exists() else None


def save(secret):
    version = int(secret["metadata"].get("resourceVersion", "100")) + 1
    secret["metadata"]["resourceVersion"] = str(version)
    part = OBJECT.with_suffix(".part")
    part.write_text(json.dumps(secret))
    part.rename(OBJECT)
    return secret


def next_fault():
    path = DIR / "faults"
    lines = path.read_text().split() if path.exists() else []
    if not lines:
        return "ok"
    path.write_text("\n".join(lines[1:]))
    return lines[0]


def merge(target, patch):
    """RFC 7386."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            target[name] = merge(target.get(name) if isinstance(target.get(name), dict) else {}, value)
        else:
            target[name] = value
    return target


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, fmt, *args):
        pass

    def answer(self, status, body, headers=()):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def refuse(self, status, reason, message, headers=()):
        self.answer(status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
                             "message": message, "code": status}, headers)

    def fault(self, kind):
        """True if that was the answer."""
        if kind in ("401", "403", "404", "409", "422", "500", "503"):
            self.refuse(int(kind), "Fault", "field is immutable" if kind == "422" else "as was asked for")
        elif kind == "429":
            self.refuse(429, "TooManyRequests", "slow down", [("Retry-After", "1")])
        elif kind == "truncated":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{\"kind\":")
            self.close_connection = True
        elif kind == "garbage":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"data\":[")
        elif kind == "untyped":
            self.answer(200, {"metadata": {"resourceVersion": "1"}, "type": "Opaque", "data": {}})
        elif kind == "nobase64":
            self.answer(200, {"metadata": {"resourceVersion": "1"}, "type": "kubernetes.io/tls",
                              "data": {"tls.crt": "?", "tls.key": {}}})
        elif kind == "huge":
            self.answer(200, {"pad": "x" * (2 << 20)})
        elif kind == "slow":
            time.sleep(7)
            self.close_connection = True
        elif kind == "closed":
            self.close_connection = True
        elif kind == "relabelled":  # by somebody else, just before
            secret = load()
            secret["metadata"].setdefault("labels", {})["touched"] = "yes"
            save(secret)
            return False
        elif kind == "replaced":
            secret = load()
            secret["data"]["tls.crt"] = base64.b64encode(b"somebody else's\n").decode()
            save(secret)
            return False
        else:
            return False
        return True

    def handle_one(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with (DIR / "log").open("a") as log:
            log.write(f"{self.command} {self.path}\n")
        kind = next_fault()
        if self.fault(kind):
            return
        if self.headers.get("Authorization") != "Bearer " + (DIR / "token").read_text().strip():
            self.refuse(401, "Unauthorized", "Unauthorized")
            return
        if kind == "lost":  # done, but nobody hears of it
            self.wfile = open("/dev/null", "wb")  # noqa: SIM115
            self.serve(body)
            self.close_connection = True
            return
        self.serve(body)

    def serve(self, body):
        secret = load()
        if self.command == "POST" and self.path == COLLECTION:
            if secret:
                self.refuse(409, "AlreadyExists", "secrets \"www-tls\" already exists")
            else:
                self.answer(201, save(body))
        elif self.path != ITEM or not secret:
            self.refuse(404, "NotFound", "secrets \"www-tls\" not found")
        elif self.command == "GET":
            self.answer(200, secret)
        elif self.command == "PATCH":
            self.patch(secret, body)
        elif self.command == "DELETE":
            if body["preconditions"]["resourceVersion"] != secret["metadata"]["resourceVersion"]:
                self.refuse(409, "Conflict", "the object has been modified")
            else:
                OBJECT.unlink()
                self.answer(200, {"kind": "Status", "status": "Success"})
        else:
            self.refuse(405, "MethodNotAllowed", "no")

    def patch(self, secret, body):
        if self.headers.get("Content-Type") != "application/merge-patch+json":
            self.refuse(415, "UnsupportedMediaType", "what is that?")
        elif body["metadata"]["resourceVersion"] != secret["metadata"]["resourceVersion"]:
            self.refuse(409, "Conflict", "the object has been modified")
        else:
            self.answer(200, save(merge(secret, body)))

    do_GET = do_POST = do_PATCH = do_DELETE = handle_one


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that does not believe us, or is gone: part of the tests


server = Server(("127.0.0.1", int(sys.argv[2])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(DIR / "api.pem", DIR / "api.key")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
