"""People at the API: one-time links, sessions and their cookie, and what other sites' pages cannot do with it."""
import http.cookies
import json
import uuid

import pytest

PASSWORD = "correct horse battery staple"
JSON = {"Content-Type": "application/json"}
OURS = {**JSON, "X-Clm-Csrf": "1", "Sec-Fetch-Site": "same-origin"}
COOKIE = "__Host-clm-session"


@pytest.fixture(scope="module")
def nobody(platform):
    client = platform.rest(api_key="")
    yield client
    client.close()


def make_link(platform):
    out = platform.create_admin_link()
    line = out.read_text().strip()
    prefix = f"{platform.url}/first-admin#"
    assert line.startswith(prefix) and (out.stat().st_mode & 0o777) == 0o600
    return line.removeprefix(prefix)


def post(client, path, body, headers=None):
    return client.raw("POST", path, json.dumps(body).encode(), OURS if headers is None else headers)


def redeem(client, link, name):
    return post(client, "/api/v1/links:redeem", {"link": link, "name": name, "password": PASSWORD})


def cookie_of(headers):
    return http.cookies.SimpleCookie(headers["Set-Cookie"])[COOKIE]


@pytest.fixture(scope="module")
def person(platform, nobody):
    """(name, Cookie header) of an administrator."""
    name = f"p{uuid.uuid4().hex[:8]}"
    status, headers, body = redeem(nobody, make_link(platform), name)
    assert status == 201, body
    return name, f"{COOKIE}={cookie_of(headers).value}"


def test_link_is_used_once_and_its_answer_shows_no_secret(platform, nobody):
    link = make_link(platform)
    name = f"p{uuid.uuid4().hex[:8]}"
    status, headers, body = redeem(nobody, link, name)
    cookie = cookie_of(headers)
    session = json.loads(body)
    assert status == 201 and session["name"] == name and session["roles"] == ["ADMIN"] and session["source"] == "127.0.0.1"
    assert cookie.value not in body.decode() and PASSWORD not in body.decode()
    assert cookie["secure"] and cookie["httponly"] and cookie["samesite"] == "Strict" and cookie["path"] == "/"
    assert not cookie["domain"] and int(cookie["max-age"]) == 12 * 3600
    assert redeem(nobody, link, name + "2")[0] == 401
    assert platform.sql(f"SELECT count(*) FROM registry.operators WHERE name = '{name}2'") == [["0"]]


def test_neither_secret_nor_password_is_in_logs_or_database(platform, nobody):
    link = make_link(platform)
    _, headers, _ = redeem(nobody, link, f"p{uuid.uuid4().hex[:8]}")
    dump, logs = platform.dump(), "".join(path.read_text(errors="replace") for path in platform.log_dir.glob("*.log"))
    for secret in (link, cookie_of(headers).value, PASSWORD):
        assert secret not in dump and secret not in logs


def test_session_reads_and_writes_like_a_key_of_its_role(nobody, person):
    name, cookie = person
    status, _, body = nobody.raw("GET", "/api/v1/sessions/current", headers={"Cookie": cookie})
    assert status == 200 and json.loads(body)["name"] == name
    assert nobody.raw("GET", "/api/v1/agents", headers={"Cookie": f"theme=dark; {cookie}; x=y"})[0] == 200
    status, _, body = post(nobody, "/api/v1/agents", {"hostname": "by-session.example.com"}, {**OURS, "Cookie": cookie})
    assert status == 201, body


@pytest.mark.parametrize("headers", [
    JSON, {**JSON, "X-Clm-Csrf": "yes"}, {**OURS, "Sec-Fetch-Site": "cross-site"}, {**OURS, "Sec-Fetch-Site": "same-site"},
    {**OURS, "Origin": "https://evil.example"}, {**OURS, "Origin": "null"}, {**OURS, "Origin": "http://localhost"},
], ids=str)
def test_what_another_sites_page_could_send_is_refused(nobody, person, headers):
    for path, body, cookie in (("/api/v1/agents", {"hostname": "forged.example.com"}, {"Cookie": person[1]}),
                               ("/api/v1/sessions", {"name": person[0], "password": PASSWORD}, {})):
        status, _, answer = post(nobody, path, body, {**headers, **cookie})
        assert status == 403, (path, answer)


def test_own_origin_is_accepted(platform, nobody, person):
    status, _, body = post(nobody, "/api/v1/agents", {"hostname": "own.example.com"},
                           {**OURS, "Cookie": person[1], "Origin": platform.url})
    assert status == 201, body


def test_an_api_key_needs_no_console_header_and_has_no_session(rest):
    assert rest.raw("POST", "/api/v1/agents", b'{"hostname": "by-key.example.com"}', JSON)[0] == 201
    for method, path in (("GET", "/api/v1/sessions/current"), ("GET", "/api/v1/sessions"), ("POST", "/api/v1/sessions/current:end")):
        status, _, body = rest.raw(method, path, b"{}" if method == "POST" else None, JSON)
        assert status in (400, 409, 412, 422), (path, status, body)


@pytest.mark.parametrize("cookie", [f"{COOKIE}=", f"{COOKIE}=wrong", f"{COOKIE}={'x' * 5000}", "other=1", f"x{COOKIE}=1"])
def test_wrong_cookies_are_nobody(nobody, cookie):
    assert nobody.raw("GET", "/api/v1/agents", headers={"Cookie": cookie})[0] in (401, 431)


def test_ended_session_is_over_and_only_ones_own_can_be_ended(platform, nobody, person):
    name = f"p{uuid.uuid4().hex[:8]}"
    _, headers, body = redeem(nobody, make_link(platform), name)
    cookie, own = f"{COOKIE}={cookie_of(headers).value}", json.loads(body)["id"]
    assert post(nobody, f"/api/v1/sessions/{own}:end", {}, {**OURS, "Cookie": person[1]})[0] == 404
    listed = json.loads(nobody.raw("GET", "/api/v1/sessions", headers={"Cookie": cookie})[2])["sessions"]
    assert [s["id"] for s in listed] == [own]
    status, headers, _ = post(nobody, "/api/v1/sessions/current:end", {}, {**OURS, "Cookie": cookie})
    assert status == 200 and cookie_of(headers).value == "" and cookie_of(headers)["max-age"] == "0"
    assert platform.sql(f"SELECT count(*) FROM registry.sessions WHERE id = '{own}'") == [["0"]]
    assert nobody.raw("GET", "/api/v1/agents", headers={"Cookie": cookie})[0] == 401


@pytest.mark.parametrize("method,path", [("GET", "/api/v1/sessions/current"), ("POST", "/api/v1/sessions/current:end")])
def test_session_that_ended_behind_the_gateways_back_is_nobody(platform, nobody, method, path):
    _, headers, body = redeem(nobody, make_link(platform), f"p{uuid.uuid4().hex[:8]}")
    cookie, own = f"{COOKIE}={cookie_of(headers).value}", json.loads(body)["id"]
    assert nobody.raw("GET", "/api/v1/agents", headers={"Cookie": cookie})[0] == 200  # remembered from now on
    platform.sql(f"DELETE FROM sessions WHERE id = '{own}'", role="registry")
    status, headers, _ = nobody.raw(method, path, b"{}" if method == "POST" else None, {**OURS, "Cookie": cookie})
    assert status == 401 and "WWW-Authenticate" in headers
    assert nobody.raw("GET", "/api/v1/agents", headers={"Cookie": cookie})[0] == 401


def test_sixth_wrong_password_is_told_to_wait(nobody, person):
    answers = [post(nobody, "/api/v1/sessions", {"name": f"guess-{person[0]}", "password": f"wrong password {i}"}) for i in range(6)]
    assert [status for status, _, _ in answers] == [401] * 5 + [429]
    assert answers[5][1]["Retry-After"]
    assert len({body.replace(json.loads(body).get("traceId", "-").encode(), b"") for _, _, body in answers[:5]}) == 1
    assert post(nobody, "/api/v1/sessions", {"name": person[0], "password": PASSWORD})[0] == 201, "others may still sign in"


def test_the_client_cannot_say_where_it_comes_from(nobody, person):
    status, _, body = post(nobody, "/api/v1/sessions", {"name": person[0], "password": PASSWORD, "source": "192.0.2.1"})
    assert status == 400, body


# ---- the console's files --------------------------------------------------------------------------------------


def test_console_is_served_with_its_policy_and_its_files_are_kept(nobody):
    status, headers, page = nobody.raw("GET", "/agents/x", headers={"Accept-Encoding": "identity"})
    assert status == 200 and headers["Content-Type"].startswith("text/html") and headers["Cache-Control"] == "no-cache"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Frame-Options"] == "DENY" and headers["Strict-Transport-Security"]
    script = page.decode().split('src="/assets/')[1].split('"')[0]
    plain = nobody.raw("GET", f"/assets/{script}")
    small = nobody.raw("GET", f"/assets/{script}", headers={"Accept-Encoding": "gzip"})
    assert "immutable" in plain[1]["Cache-Control"] and small[1]["Content-Encoding"] == "gzip" and len(small[2]) < len(plain[2]) / 2
    assert nobody.raw("GET", f"/assets/{script}", headers={"If-None-Match": plain[1]["ETag"]})[0] == 304
    assert b"<script>" not in page and b"style=" not in page and b"http://" not in page


@pytest.mark.parametrize("path", ["/assets/", "/assets/nothing.js", "/.git/config", "/assets/../agents.conf", "/agentsx", "/package.json"])
def test_what_is_no_file_of_the_console_is_not_there(nobody, path):
    assert nobody.raw("GET", path)[0] in (400, 404)
