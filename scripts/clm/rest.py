"""A REST client as an operator has one: HTTPS verified against the platform's root, an API key, JSON."""
import http.client
import json
import socket
import ssl
import time
import urllib.parse

from clm.process import wait_until

TERMINAL = {"SUCCEEDED", "INSTALLED_UNVERIFIED", "FAILED", "CANCELLED", "EXPIRED"}


class RestError(Exception):
    """An answer that is not 2xx: status and the problem document."""

    def __init__(self, method, path, status, body):
        detail = body.get("detail") or body.get("title") if isinstance(body, dict) else body
        super().__init__(f"{method} {path}: HTTP {status}: {detail}")
        self.status, self.body = status, body


class _LoopbackConnection(http.client.HTTPSConnection):
    """Connects to 127.0.0.1 whatever the name is that the certificate must carry."""

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)


class Watch:
    """GET /api/v1/events as a browser reads it: remembers the last id. Not for several threads."""

    def __init__(self, rest, last_event_id=None, timeout=30, headers=None, **query):
        self._connection = _LoopbackConnection(rest._connection.host, rest._connection.port, timeout=timeout,
                                               context=rest._connection._context)
        sent = {"Authorization": f"Bearer {rest._api_key}"} if rest._api_key else {}
        sent.update(headers or {})
        if last_event_id is not None:
            sent["Last-Event-ID"] = str(last_event_id)
        path = "/api/v1/events" + ("?" + urllib.parse.urlencode(query, doseq=True) if query else "")
        try:
            self._connection.request("GET", path, headers=sent)
            self.response = self._connection.getresponse()
            if self.response.status != 200:
                text = self.response.read()
                raise RestError("GET", path, self.response.status, json.loads(text))
        except BaseException:
            self._connection.close()
            raise
        self.last_event_id = last_event_id
        self.comments = 0

    def close(self):
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def next(self):
        """(name, data) of the next event; None when the server ended the stream; TimeoutError if nothing comes."""
        name, data = "message", []
        while True:
            line = self.response.readline()
            if not line:
                return None
            text = line.decode().rstrip("\n")
            field, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if not text:
                if data:
                    return name, json.loads("\n".join(data))
                name = "message"
            elif not field:
                self.comments += 1
            elif field == "id":
                self.last_event_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data.append(value)

    def until(self, wanted):
        """Data of the events up to the first for which wanted(data) is true; AssertionError if the stream ends before."""
        seen = []
        while event := self.next():
            if event[0] == "message":
                seen.append(event[1])
                if wanted(event[1]):
                    return seen
        raise AssertionError(f"the stream ended; it had shown {[e['type'] for e in seen]}")


class Rest:
    """One keep-alive connection. Not for several threads: make one each."""

    def __init__(self, name, port, roots, api_key, timeout=30):
        context = ssl.create_default_context(cafile=roots)
        self._connection = _LoopbackConnection(name, port, timeout=timeout, context=context)
        self._api_key = api_key

    def close(self):
        self._connection.close()

    def raw(self, method, path, body=None, headers=None):
        """(status, headers, body bytes); whatever the server says."""
        sent = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        sent.update(headers or {})
        for last_try in (False, True):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, path, body=body, headers=sent)
                response = self._connection.getresponse()
                return response.status, response.headers, response.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
                # A kept connection may have been closed between two requests; a fresh one must answer.
                self._connection.close()
                if fresh or last_try:
                    raise
            except BaseException:
                self._connection.close()
                raise

    def call(self, method, path, body=None, headers=None):
        """The decoded JSON of a 2xx answer; RestError for others."""
        sent = dict(headers or {})
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        status, _, text = self.raw(method, path, data, sent)
        try:
            decoded = json.loads(text) if text else {}
        except ValueError:
            decoded = text.decode(errors="replace")
        if not 200 <= status < 300:
            raise RestError(method, path, status, decoded)
        return decoded

    def get(self, path, **query):
        return self.call("GET", path + ("?" + urllib.parse.urlencode(query, doseq=True) if query else ""))

    def post(self, path, body=None, headers=None):
        return self.call("POST", path, body if body is not None else {}, headers)

    def watch(self, last_event_id=None, timeout=30, headers=None, **query):
        return Watch(self, last_event_id, timeout, headers, **query)

    # ---- what operators do ----------------------------------------------------------------------------------

    def register(self, hostname, *, operations=(), paths=(), dns_names=(), labels=None, **more):
        body = {"hostname": hostname, "labels": [{"name": k, "value": v} for k, v in (labels or {}).items()],
                "scope": {"operations": list(operations), "paths": list(paths), "dnsNames": list(dns_names)}, **more}
        return self.post("/api/v1/agents", body)

    def agent(self, agent_id):
        return self.get(f"/api/v1/agents/{agent_id}")

    def wait_agent(self, agent_id, status, timeout=60, process=None):
        return wait_until(f"agent {agent_id} to be {status}",
                          lambda: next((a for a in [self.agent(agent_id)] if a["status"] == status), None),
                          timeout, process=process)

    def create_task(self, agent_id, kind, spec=None, **more):
        return self.post("/api/v1/tasks", {"agentId": agent_id, "spec": {"kind": kind, kind.lower(): spec or {}}, **more})

    def task(self, task_id):
        return self.get(f"/api/v1/tasks/{task_id}")

    def wait_task(self, task_id, timeout=60):
        """The task once it is over."""
        task = {}
        deadline = time.monotonic() + timeout

        def over():
            nonlocal task
            task = self.task(task_id)
            return task["state"] in TERMINAL
        wait_until(f"task {task_id} to end", over, deadline - time.monotonic())
        return task

    def run_task(self, agent_id, kind, spec=None, timeout=60, **more):
        return self.wait_task(self.create_task(agent_id, kind, spec, **more)["id"], timeout)
