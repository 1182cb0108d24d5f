"""Who may pass the door: every route there is, with every kind of key."""

import re

import pytest

from app.access.key_file import KeyEntry, KeyFile, write_key_file
from app.access.keys import digest_of
from app.access.scopes import Scope
from app.main import create_app
from app.settings import Settings

PROBES = {"/health", "/livez", "/readyz", "/startupz"}
SECRETS = {
    "generate": "generate-key-0001",
    "metrics": "metrics-key-00001",
    "admin": "admin-key-0000001",
    "all": "all-scopes-key-01",
}


def routes_of(router):
    """(path, method) of every route, those of included routers and of the framework too."""
    for route in router.routes:
        if hasattr(route, "path"):
            path = re.sub(r":\w+}", "}", route.path)  # without what a parameter is converted by
            yield from ((path, method) for method in sorted(route.methods))
        else:
            yield from routes_of(route.original_router)


ALL_ROUTES = sorted(set(routes_of(create_app(Settings()))))


@pytest.fixture
def keys_file(tmp_path):
    scopes = {name: [Scope(name)] for name in SECRETS if name != "all"} | {"all": list(Scope)}
    entries = [
        KeyEntry(name=name, sha256=digest_of(secret.encode()).hex(), scopes=scopes[name])
        for name, secret in SECRETS.items()
    ]
    write_key_file(tmp_path / "keys.json", KeyFile(keys=entries))
    return tmp_path / "keys.json"


@pytest.fixture
def settings(tmp_path, keys_file):
    return Settings(cache_folder=tmp_path, keys_file=keys_file)


async def ask(service, path, method="GET", secret=None, **headers):
    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    concrete = re.sub(r"\{\w+\}", "x", path)
    return await service.client.request(method, concrete, headers=headers)


def scope_of(path):
    if path in PROBES:
        return None
    if path == "/metrics":
        return "metrics"
    return "admin" if path.startswith("/admin/") else "generate"


def test_walk_finds_every_documented_route():
    app = create_app(Settings())
    documented = {
        (path, method.upper()) for path, item in app.openapi()["paths"].items() for method in item
    }
    assert documented <= set(ALL_ROUTES)
    assert {("/openapi.json", "GET"), ("/docs", "GET"), ("/admin/drain", "POST")} <= set(ALL_ROUTES)


async def test_each_route_takes_its_own_keys_only(service):
    """One test for all of them: a service for each would take minutes."""
    refused, expected = {}, {}
    for path, method in [*ALL_ROUTES, ("/nowhere", "GET"), ("/admin/nothing", "GET")]:
        for name, secret in [("none", None), ("wrong", "x" * 16), *SECRETS.items()]:
            status = (await ask(service, path, method, secret)).status_code
            refused[method, path, name] = status if status in (401, 403) else None
            expected[method, path, name] = expected_refusal(path, name)
    assert refused == expected


def expected_refusal(path, name):
    needed = scope_of(path)
    if needed is None or name in (needed, "all"):
        return None
    return 403 if name in SECRETS else 401


async def test_refusals_say_how_to_ask(service):
    missing = await ask(service, "/generate", "POST")
    assert missing.headers["www-authenticate"] == 'Bearer realm="beamline"'
    assert missing.json()["error"]["code"] == "missing_api_key"
    assert "Authorization: Bearer" in missing.json()["error"]["message"]
    wrong = await ask(service, "/generate", "POST", "sk-wrong-and-secret")
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    assert wrong.json()["error"]["type"] == "authentication_error"
    assert "sk-wrong-and-secret" not in wrong.text
    short = await ask(service, "/admin/cache", "GET", SECRETS["generate"])
    assert 'error="insufficient_scope"' in short.headers["www-authenticate"]
    assert "scope admin" in short.json()["error"]["message"]
    assert all(answer.headers["x-request-id"] for answer in (missing, wrong, short))


async def test_key_may_come_in_either_header(service):
    bearer = {"Authorization": f"bearer {SECRETS['generate']}"}
    header = {"X-API-Key": SECRETS["generate"]}
    assert (await ask(service, "/docs", **bearer)).status_code == 200
    assert (await ask(service, "/docs", **header)).status_code == 200


async def test_nothing_else_opens_the_door(service):
    for headers in (
        {"Authorization": SECRETS["generate"]},
        {"Authorization": f"Basic {SECRETS['generate']}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer ", "X-API-Key": SECRETS["generate"]},
        {"Authorization": "Bearer \xff\xfe".encode("latin-1")},
        {"Host": "service/livez?"},
        {"X-Original-URL": "/livez"},
    ):
        assert (await ask(service, "/docs", **headers)).status_code == 401, headers


async def test_only_the_very_path_of_a_probe_is_open(service):
    for path in ("/livez/", "//livez", "/livez%2f..", "/LIVEZ"):
        assert (await service.client.get(path)).status_code == 401, path


async def test_body_is_not_read_before_the_key_is(service):
    async def endless():
        raise AssertionError("somebody read the body")
        yield b""

    response = await service.client.post("/generate", content=endless())
    assert response.status_code == 401


async def test_websocket_is_refused_too(service):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    await service.app({"type": "websocket", "path": "/x", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_log_and_metrics_name_the_key_and_never_hold_it(service, caplog):
    with caplog.at_level("INFO"):
        await ask(service, "/docs", "GET", SECRETS["generate"])
        await ask(service, "/docs", "GET", SECRETS["generate"] + "x")
    assert " key=generate" in caplog.text
    assert SECRETS["generate"] not in caplog.text
    assert service.metric("api_key_requests_total", key="generate", status="200") == 1
    assert service.metric("requests_rejected_total", reason="invalid_api_key") == 1


async def test_document_says_which_routes_need_a_key(service):
    document = (await ask(service, "/openapi.json", "GET", SECRETS["generate"])).json()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    paths = document["paths"]
    assert "security" not in paths["/livez"]["get"]
    assert paths["/generate"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert {"401", "403", "429"} <= paths["/generate"]["post"]["responses"].keys()
    assert "429" not in paths["/admin/cache"]["get"]["responses"]


class TestWithoutKeys:
    @pytest.fixture
    def settings(self, tmp_path):
        return Settings(cache_folder=tmp_path)

    async def test_all_but_admin_is_open(self, service):
        refused = set()
        for path, method in ALL_ROUTES:
            response = await ask(service, path, method)
            if response.status_code in (401, 403):
                assert "--keys-file" in response.json()["error"]["message"]
                refused.add((path, method))
        assert refused == {route for route in ALL_ROUTES if route[0].startswith("/admin/")}

    async def test_document_asks_for_no_key(self, service):
        document = (await ask(service, "/openapi.json")).json()
        assert "securitySchemes" not in document["components"]
        assert "403" in document["paths"]["/admin/cache"]["get"]["responses"]
        assert "401" not in document["paths"]["/generate"]["post"]["responses"]


class TestKeysOfTheEnvironment:
    @pytest.fixture
    def settings(self, tmp_path):
        return Settings(
            cache_folder=tmp_path,
            api_keys="first-caller-key-1,second-caller-key-2",
            admin_api_keys="an-operators-key-1",
            public_metrics=True,
        )

    async def test_callers_may_generate_and_operators_all(self, service):
        for secret in ("first-caller-key-1", "second-caller-key-2"):
            assert (await ask(service, "/docs", "GET", secret)).status_code == 200
            assert (await ask(service, "/admin/cache", "GET", secret)).status_code == 403
        for path in ("/docs", "/admin/cache"):
            assert (await ask(service, path, "GET", "an-operators-key-1")).status_code == 200
        assert service.metric("api_key_requests_total", key="api-key-2", status="200") == 1

    async def test_metrics_are_open_if_the_settings_say_so(self, service):
        assert (await ask(service, "/metrics")).status_code == 200


class TestCrossOrigin:
    @pytest.fixture
    def settings(self, tmp_path, keys_file):
        return Settings(
            cache_folder=tmp_path, keys_file=keys_file, cors_origins="https://a.example"
        )

    async def preflight(self, service, origin):
        return await service.client.options(
            "/generate",
            headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
            | {"Access-Control-Request-Headers": "authorization"},
        )

    async def test_preflight_of_a_listed_origin_passes_without_a_key(self, service):
        response = await self.preflight(service, "https://a.example")
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        assert "authorization" in response.headers["access-control-allow-headers"]

    async def test_other_origins_are_refused(self, service):
        response = await self.preflight(service, "https://b.example")
        assert response.status_code == 400
        assert "access-control-allow-origin" not in response.headers

    async def test_page_may_read_a_refusal_and_what_is_left_of_its_minute(self, service):
        response = await ask(service, "/generate", "POST", Origin="https://a.example")
        assert response.status_code == 401
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        assert "x-ratelimit-remaining-tokens" in response.headers["access-control-expose-headers"]


async def test_cross_origin_pages_are_told_nothing_by_default(service):
    response = await ask(service, "/docs", "GET", SECRETS["generate"], Origin="https://a.example")
    assert not [name for name in response.headers if name.startswith("access-control")]
