"""The part of a Kubernetes API server that speaks of Secrets, with one pod's service account."""
import base64
import http.server
import json
import ssl
import threading

from clm.platform import write
from clm.process import run

TOKEN, NAMESPACE = "the-pods-token", "clm"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


def status(code, reason, message):
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code}


class ApiServer:
    """Remembers what was made of it. `answers` are given before it does anything, one a request: a status, or a function that is called
    and may give one; None: as it is."""

    def __init__(self, directory, user):
        self.secrets, self.dir, self.answers, self.seen, self.version = {}, directory, [], [], 100
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
             "-keyout", directory / "key.pem", "-out", directory / "ca.crt", "-subj", "/CN=kubernetes",
             "-addext", "subjectAltName=IP:127.0.0.1"])
        (directory / "ca.crt").chmod(0o644)
        write(directory / "token", f"{TOKEN}\n", 0o600, user)
        write(directory / "namespace", NAMESPACE)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "ca.crt", directory / "key.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _handler(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                code, said = outer.serve(self.command, self.path, self.headers, body)
                text = json.dumps(said).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *_):
                pass
        return Handler

    def serve(self, method, path, headers, body):
        self.seen.append((method, path))
        asked = self.answers.pop(0) if self.answers else None
        told = asked() if callable(asked) else asked
        if headers["Authorization"] != f"Bearer {TOKEN}" or not path.startswith(SECRETS):
            told = 403
        if told:
            return status(told, "Told", f"the test says {told}")
        if method == "POST":
            return self._create(body)
        name = path.removeprefix(SECRETS + "/")
        if name not in self.secrets:
            return status(404, "NotFound", f'secrets "{name}" not found')
        return (200, self.secrets[name]) if method == "GET" else self._merge(name, headers["Content-Type"], body)

    def _create(self, body):
        name = body["metadata"]["name"]
        if name in self.secrets:
            return status(409, "AlreadyExists", f'secrets "{name}" already exists')
        self.secrets[name] = body
        self.touch(name)
        return 201, body

    def _merge(self, name, content_type, patch):
        secret = self.secrets[name]
        if content_type != "application/merge-patch+json":
            return status(415, "UnsupportedMediaType", content_type)
        if patch["metadata"].get("resourceVersion", secret["metadata"]["resourceVersion"]) != secret["metadata"]["resourceVersion"]:
            return status(409, "Conflict", "the object has been modified")
        if secret.get("immutable"):
            return status(422, "Invalid", f'Secret "{name}" is invalid: data: Forbidden: field is immutable when `immutable` is set')
        secret["data"].update(patch["data"])
        self.touch(name)
        return 200, secret

    def touch(self, name):
        self.version += 1
        self.secrets[name]["metadata"]["resourceVersion"] = str(self.version)

    @property
    def env(self):
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.server.server_port)}

    def data(self, name):
        return {key: base64.b64decode(value) for key, value in self.secrets[name]["data"].items()}

    def put(self, name, data):
        """As kubectl would: the keys of `data`, beside those that are there."""
        secret = self.secrets.setdefault(name, {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": False,
                                                "metadata": {"name": name}, "data": {}})
        secret["data"].update({key: base64.b64encode(value).decode() for key, value in data.items()})
        self.touch(name)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
