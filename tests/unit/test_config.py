"""Decoding of configuration files: defaults, problems with their lines, combinations."""

import pickle
import re
from pathlib import Path

import msgspec
import pytest

from edge.access.keys import SharedKey
from edge.config import (
    Config,
    EchoRoute,
    IpAddress,
    LinkedRoute,
    ListenAddress,
    LoopbackRoute,
    PublicAddress,
    RealtimeRoute,
    RouteName,
    Table,
    TwilioRoute,
    WebSocketRoute,
    apply_live,
    decode_config,
    waiting_keys,
)
from edge.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "config" / "edge.toml"
KEY = "000102030405060708090a0b0c0d0e0f"
OTHER_KEY = "ff0102030405060708090a0b0c0d0e0f"
PASSWORD = KEY * 2


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        decode_config(text, "edge.toml")
    return str(caught.value).splitlines()


def test_shipped_file_spells_out_the_defaults() -> None:
    assert decode_config(SHIPPED.read_text(), "edge.toml") == Config()


def test_shipped_file_names_every_key() -> None:
    document = msgspec.toml.decode(SHIPPED.read_bytes(), type=dict[str, dict[str, object]])
    tables = {field.name: field.type for field in msgspec.structs.fields(Config)}
    assert list(document) == list(tables)
    assert document.pop("routes") == {"default": {"kind": "echo"}}
    del tables["routes"]
    for fleet_table in ("sites", "clusters", "hosts"):  # their examples are comments
        assert document.pop(fleet_table) == {}
        del tables[fleet_table]
    for name, table in tables.items():
        assert isinstance(table, type)
        assert issubclass(table, Table)
        assert list(document[name]) == list(table.__struct_fields__)


def shipped_examples() -> str:
    """The routes that the shipped file has as comments: what has one "#" is an example."""
    _, _, text = SHIPPED.read_text().partition('kind = "echo"')
    examples, _, _ = text.partition("[media]")
    lines = [line.removeprefix("# ") for line in examples.splitlines()]
    return "\n".join(line for line in lines if re.match(r"\[routes|[a-z_]+ = ", line))


def test_shipped_examples_name_every_key_with_its_default() -> None:
    text = shipped_examples()
    examples = msgspec.toml.decode(text, type=dict[str, dict[str, dict[str, object]]])["routes"]
    config = decode_config(f"[routes.default]\nkind = 'echo'\n{text}", "edge.toml")
    assert list(config.routes) == ["default", "agent", "phone", "model"]
    agent, model = config.routes[RouteName("agent")], config.routes[RouteName("model")]
    assert isinstance(agent, WebSocketRoute)
    assert examples["agent"].keys() == set(agent.__struct_fields__)
    assert agent == WebSocketRoute(url=agent.url, rate_hz=24000)
    assert agent.format_rate_hz == WebSocketRoute(url=agent.url).format_rate_hz
    assert isinstance(model, RealtimeRoute)
    own = set(model.__struct_fields__) - set(LinkedRoute.__struct_fields__)
    assert examples["model"].keys() == own | {"url"}
    assert model == RealtimeRoute(
        url=model.url, model=model.model, key_file=model.key_file, session=model.session
    )


def test_empty_file_is_the_defaults() -> None:
    assert decode_config("", "edge.toml") == Config()


def test_defaults_are_a_localhost_setup() -> None:
    config = Config()
    assert [str(each) for each in config.relay.listen] == ["127.0.0.1:3478"]
    assert [str(each) for each in config.signal.listen] == ["127.0.0.1:8080"]
    assert (config.relay.workers, config.transceiver.workers) == (2, 2)
    assert config.signal.path == "/v1/session"
    assert config.signal.serves_page


def test_values_are_parsed() -> None:
    config = decode_config(
        f"""
        [relay]
        listen = ["0.0.0.0:3478", "[2001:DB8::0:1]:0"]
        public_addresses = ["203.0.113.7:443", "2001:db8::2"]
        flow_generation = 5
        [signal]
        page = "off"
        [keys]
        routing = [{{ id = 3, key = "{KEY}" }}]
        password = "{PASSWORD}"
        [supervisor]
        state_directory = "/srv/edge"
        """,
        "edge.toml",
    )
    assert config.relay.listen == (
        ListenAddress(IpAddress("0.0.0.0"), 3478),
        ListenAddress(IpAddress("2001:db8::1"), 0),
    )
    assert config.relay.public_addresses == (
        PublicAddress(IpAddress("203.0.113.7"), 443),
        PublicAddress(IpAddress("2001:db8::2"), None),
    )
    assert config.relay.flow_generation == 5.0
    assert not config.signal.serves_page
    assert config.keys.routing[0].id == 3
    assert config.keys.routing[0].key == bytes(range(16))
    assert config.keys.password == bytes(range(16)) * 2
    assert config.keys.file is None
    assert config.supervisor.state_directory == "/srv/edge"


def test_advertised_takes_the_bound_ports_where_none_is_told() -> None:
    relay = decode_config(
        """
        [relay]
        listen = ["0.0.0.0:0", "[::]:0"]
        public_addresses = ["203.0.113.7", "[2001:db8::2]:443"]
        """,
        "edge.toml",
    ).relay
    assert [str(each) for each in relay.advertised([5000, 5001])] == [
        "203.0.113.7:5000",
        "[2001:db8::2]:443",
    ]
    assert [str(each) for each in Config().relay.advertised([5000])] == ["127.0.0.1:5000"]


def test_config_survives_pickling_for_the_workers() -> None:
    config = decode_config(
        f'[keys]\nrouting = [{{ id = 0, key = "{KEY}" }}]\npassword = "{PASSWORD}"', "edge.toml"
    )
    assert pickle.loads(pickle.dumps(config)) == config


def test_all_problems_are_reported_in_file_order() -> None:
    text = """\
[relay]
worker = 3
workers = 0
listen = [
  "127.0.0.1:3478",
  "localhost:3479",
  7,
]
pin_cores = 1

[signal]
page = "maybe"
idle_timeout = nan

[log.extra]
[rely]
"""
    assert problems(text) == [
        'edge.toml:2: relay.worker: unknown key; did you mean "workers"?',
        "edge.toml:3: relay.workers: expected an integer >= 1",
        "edge.toml:6: relay.listen[1]: 'localhost' is not an IP address (names are not looked up)",
        "edge.toml:7: relay.listen[2]: expected a string",
        "edge.toml:9: relay.pin_cores: expected true or false, got an integer",
        'edge.toml:12: signal.page: expected "auto" or "on" or "off"',
        "edge.toml:13: signal.idle_timeout: expected a number > 0.0",
        "edge.toml:15: log.extra: unknown key",
        'edge.toml:16: rely: unknown key; did you mean "relay"?',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n\nworkers 3", "edge.toml:3: not valid TOML: Expected '=' after a key"),
        ("[relay]\nworkers = 1\nworkers = 2", "edge.toml:3: not valid TOML: Cannot overwrite"),
        ('a = "never closed', "edge.toml:1: not valid TOML: Unterminated string"),
        ("x = " + "[" * 5000 + "]" * 5000, "edge.toml: values are nested too deeply"),
        ("x = 1" + "0" * 5000, "edge.toml: not valid TOML: Exceeds the limit"),
    ],
)
def test_syntax_errors_name_the_line(text: str, expected: str) -> None:
    [problem] = problems(text)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relay = 5", "edge.toml:1: relay: expected a table"),
        ("[[relay]]", "edge.toml:1: relay: expected a table"),
        (
            "workers = 5",
            "edge.toml:1: workers: unknown key; it belongs in [relay] or [transceiver]",
        ),
        ("[relay]\nlisten = '127.0.0.1:1'", "edge.toml:2: relay.listen: expected an array"),
        ("[relay]\nlisten = []", "edge.toml:2: relay.listen: needs at least one address"),
        ("[relay]\nworkers = 2.0", "edge.toml:2: relay.workers: expected an integer, got a number"),
        ("[relay]\nworkers = true", "relay.workers: expected an integer, got true or false"),
        ("relay.flow_generation = inf", "edge.toml:1: relay.flow_generation: expected a number <="),
        ("supervisor.cluster = 65536", "supervisor.cluster: expected an integer <= 65535"),
        ("signal.path = '/'", "signal.path: '/' is not like"),
        ("signal.path = '/v1/session?a'", "signal.path: '/v1/session?a' is not like"),
        ('signal.path = "/v1\\n"', "signal.path: '/v1\\n' is not like"),
        ("keys.file = 'keys.toml'", "keys.file: 'keys.toml' is not an absolute path"),
        ('keys.file = "/k\\u0000"', "keys.file: a path cannot contain a NUL"),
        ("[keys]\nrouting = [{ id = 1 }]", "edge.toml:2: keys.routing[0].key: missing"),
        ('"re lay" = 1', "edge.toml:1: 're lay': unknown key"),
    ],
)
def test_wrong_values(text: str, expected: str) -> None:
    [problem] = problems(text)
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[relay]\nlisten = ['127.0.0.1:1', '127.0.0.1:1']",
            ["edge.toml:2: relay.listen[1]: 127.0.0.1:1 is named twice"],
        ),
        (
            "[relay]\nlisten = ['127.0.0.1:1', '127.0.0.1:2']",
            ["edge.toml:2: relay.listen[1]: 127.0.0.1 is named twice; clients are told one port"],
        ),
        (
            (
                "[relay]\nlisten = ['0.0.0.0:1', '127.0.0.1:1']\n"
                "public_addresses = ['192.0.2.1', '192.0.2.2']"
            ),
            ["edge.toml:2: relay.listen[1]: port clash"],
        ),
        (
            "[signal]\nlisten = ['127.0.0.1:1', '[::1]:1', '127.0.0.1:1']",
            ["edge.toml:2: signal.listen[2]: 127.0.0.1:1 is named twice"],
        ),
        (
            "[relay]\nlisten = ['0.0.0.0:3478', '[::]:3478']",
            [
                "edge.toml:2: relay.listen[0]: a wildcard address needs public_addresses",
                "edge.toml:2: relay.listen[1]: a wildcard address needs public_addresses",
            ],
        ),
        (
            "[relay]\npublic_addresses = ['192.0.2.1', '192.0.2.2']",
            ["relay.public_addresses: needs one entry per listen address; has 2 for 1"],
        ),
        (
            "[relay]\npublic_addresses = ['0.0.0.0']",
            ["edge.toml:2: relay.public_addresses[0]: a wildcard address is not a place"],
        ),
        (
            "[relay]\npublic_addresses = ['2001:db8::1']",
            ["relay.public_addresses[0]: not the IP version of its listen address 127.0.0.1:3478"],
        ),
        (
            (
                "[relay]\nlisten = ['127.0.0.1:1', '127.0.0.2:1']\n"
                "public_addresses = ['192.0.2.1:1', '192.0.2.1:2']"
            ),
            ["edge.toml:3: relay.public_addresses[1]: 192.0.2.1 is named twice"],
        ),
        (
            "[transceiver]\ninternal_address = '::'",
            ["edge.toml:2: transceiver.internal_address: relays need one address"],
        ),
        (
            "[supervisor]\nrestart_backoff = 20",
            ["edge.toml:1: supervisor.restart_backoff_max: must not be below restart_backoff"],
        ),
        (
            "[media]\njitter_delay_min = 0.5",
            ["edge.toml:1: media.jitter_delay_max: must not be below jitter_delay_min"],
        ),
        (
            "[media]\nplayout_max = 1\nprebuffer = 1.5",
            ["edge.toml:2: media.playout_max: must not be below prebuffer"],
        ),
        (
            "[supervisor]\nheartbeat_limit = 1.5",
            ["edge.toml:2: supervisor.heartbeat_limit: must be at least twice"],
        ),
    ],
)
def test_impossible_combinations(text: str, expected: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(expected)
    assert all(part in problem for part, problem in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"routing = [{{id = 7, key = '{KEY}'}}]\npassword = '{PASSWORD}'",
            "edge.toml:2: keys.routing[0].id: key id 7 is never routable",
        ),
        (
            (
                f"routing = [{{id = 1, key = '{KEY}'}}, {{id = 1, key = '{OTHER_KEY}'}}]\n"
                f"password = '{PASSWORD}'"
            ),
            "edge.toml:2: keys.routing[1].id: key id 1 is already taken by routing[0]",
        ),
        (
            (
                f"routing = [{{id = 1, key = '{KEY}'}}, {{id = 2, key = '{KEY.upper()}'}}]\n"
                f"password = '{PASSWORD}'"
            ),
            "edge.toml:2: keys.routing[1].key: the same key as routing[0]",
        ),
        (
            f"routing = [{{id = 1, key = '{KEY}'}}]",
            "keys.password: routing keys written here need a password key",
        ),
        (
            f"password = '{PASSWORD}'",
            "keys.routing: a password key written here needs routing keys",
        ),
        (
            f"password = '{PASSWORD}'\nfile = '/etc/edge/keys.toml'",
            "edge.toml:3: keys.file: either a key file or keys written here, not both",
        ),
        (f"password = '{PASSWORD[:-1]}'", "keys.password: expected 64 hex digits (32 bytes)"),
        (f"password = '{PASSWORD[:-1]}\u0663'", "keys.password: expected 64 hex digits (32 bytes)"),
    ],
)
def test_key_problems_never_show_keys(text: str, expected: str) -> None:
    [problem] = problems(f"[keys]\n{text}")
    assert expected in problem
    assert KEY[:8] not in problem.lower()


def test_keys_do_not_show_in_the_config_object() -> None:
    config = decode_config(
        f"[keys]\nrouting = [{{id = 1, key = '{KEY}'}}]\npassword = '{PASSWORD}'", "edge.toml"
    )
    for text in (repr(config), f"{config}", f"{config.keys.password}"):
        assert KEY[:8] not in text
        assert "\\x01" not in text


@pytest.mark.parametrize(
    ("listen", "page", "served"),
    [
        ("['127.0.0.1:1', '[::1]:1']", "auto", True),
        ("['127.0.0.1:1', '192.0.2.1:1']", "auto", False),
        ("['0.0.0.0:1']", "auto", False),
        ("['0.0.0.0:1']", "on", True),
        ("['127.0.0.1:1']", "off", False),
    ],
)
def test_page(listen: str, page: str, served: bool) -> None:
    text = f"[signal]\nlisten = {listen}\npage = '{page}'\n[access]\nopen = 'on'"
    assert decode_config(text, "edge.toml").signal.serves_page is served


@pytest.mark.parametrize(
    ("listen", "is_open", "result"),
    [
        ("['127.0.0.1:1', '[::1]:1']", "auto", True),
        ("['127.0.0.1:1', '192.0.2.1:1']", "auto", False),
        ("['192.0.2.1:1']", "on", True),
        ("['127.0.0.1:1']", "off", False),
    ],
)
def test_open_access(listen: str, is_open: str, result: bool) -> None:
    text = f"signal.listen = {listen}\n[access]\nopen = '{is_open}'\n{API_KEY}"
    config = decode_config(text, "edge.toml")
    assert config.access.is_open(on_loopback=config.signal.on_loopback) is result


API_KEY = "[[access.api_keys]]\nname = 'shop'\nkey = 'sha256:" + 64 * "a" + "'\n"
TOKEN_KEY = "[[access.token_keys]]\nid = 'shop'\nsecret = '" + 32 * "z" + "'\n"


def test_access_keys() -> None:
    config = decode_config(
        f"{API_KEY}routes = ['default']\n{TOKEN_KEY}sessions_max = 3", "edge.toml"
    )
    (api_key,), (token_key,) = config.access.api_keys, config.access.token_keys
    assert api_key.key == bytes.fromhex(64 * "a")
    assert api_key.routes == ("default",)
    assert token_key.key() == SharedKey("shop", 32 * b"z")
    assert token_key.sessions_max == 3
    assert "zzz" not in repr(config)
    assert "aaa" not in repr(config)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("signal.listen = ['192.0.2.1:1']", "access.open: nobody could call"),
        ("access.open = 'off'", "edge.toml:1: access.open: nobody could call"),
        (API_KEY + API_KEY, 'access.api_keys[1].name: "shop" is already taken'),
        (TOKEN_KEY + TOKEN_KEY, 'access.token_keys[1].id: "shop" is already taken'),
        (TOKEN_KEY.replace("shop", "edge"), "access.token_keys[0].id: "),
        (TOKEN_KEY.replace("zz", "z"), "access.token_keys[0].secret: a shared secret has 32"),
        ("[[access.token_keys]]\nid = 'shop'", "access.token_keys[0].id: needs either"),
        (TOKEN_KEY + "public_key = 'x'", "access.token_keys[0].id: needs either"),
        ("[[access.token_keys]]\nid = 'a'\npublic_key = 'x'", "].public_key: not a public key"),
        (API_KEY.replace("sha256:" + 58 * "a", ""), "api_keys[0].key: an API key has 32"),
        (API_KEY.replace("shop", "a b"), "access.api_keys[0].name: a key's name"),
        (API_KEY + "routes = ['none']", '].routes[0]: there is no route "none"'),
        ("access.origins = ['https://*.com']", "access.origins[0]: "),
        ("access.lifetime_max = 30", "access.default_lifetime: must not be above"),
        ("signal.tls_key = '/k'", "signal.tls_certificate: TLS needs both"),
        ("relay.tcp_listen = ['127.0.0.1:8080']", "relay.tcp_listen[0]: signaling listens on"),
        ("relay.tcp_listen = ['0.0.0.0:1']", "relay.tcp_listen[0]: a wildcard address needs tcp_"),
        ("relay.tcp_public_addresses = ['192.0.2.1']", "relay.tcp_public_addresses: needs one"),
    ],
)
def test_bad_access(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode_config(text, "edge.toml")
    assert problem in str(caught.value)
    assert "zzz" not in str(caught.value)


URL = "url = 'wss://backend.example/media'\n"


def test_routes_of_every_kind() -> None:
    config = decode_config(
        f"""
        signal.default_route = "agent"
        [routes]
        hear.kind = "echo"
        loop = {{ kind = "loopback" }}
        [routes.agent]
        kind = "websocket"
        url = "ws://[::1]:9000/media?x=1"
        encoding = "opus"
        on_failure = "reconnect"
        [routes."a.b"]
        kind = "twilio"
        {URL}
        headers = {{ X-Key = "geheim", Authorization = "Basic Zw==" }}
        [routes.model]
        kind = "realtime"
        {URL}
        model = "m"
        key = "geheim"
        voice = ""
        instructions = "Be kind."
        gather_ms = 60
        session = {{ tools = [{{ type = "function" }}], temperature = 0.6 }}
        """,
        "edge.toml",
    )
    assert list(config.routes) == ["hear", "loop", "agent", "a.b", "model"]
    assert config.routes[RouteName("hear")] == EchoRoute()
    assert config.routes[RouteName("loop")] == LoopbackRoute()
    agent, phone, model = (config.routes[RouteName(name)] for name in ("agent", "a.b", "model"))
    assert isinstance(agent, WebSocketRoute)
    assert agent.url == "ws://[::1]:9000/media?x=1"
    assert (agent.encoding, agent.format_rate_hz) == ("opus", 48000)
    assert isinstance(phone, TwilioRoute)
    assert {name: each.reveal() for name, each in phone.headers.items()} == {
        "X-Key": "geheim",
        "Authorization": "Basic Zw==",
    }
    assert isinstance(model, RealtimeRoute)
    assert model.key is not None
    assert (model.key.reveal(), model.voice, model.instructions) == ("geheim", None, "Be kind.")
    assert model.session == {"tools": [{"type": "function"}], "temperature": 0.6}
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_file_with_routes_has_no_others() -> None:
    assert problems("[routes.mine]\nkind = 'echo'") == [
        'edge.toml: signal.default_route: there is no route "default" (routes: mine)'
    ]
    assert problems("[signal]\ndefault_route = 'mine'") == [
        'edge.toml:2: signal.default_route: there is no route "mine" (routes: default)'
    ]
    assert problems("routes = 5") == ["edge.toml:1: routes: expected a table"]
    [problem] = problems("[routes]")
    assert "(routes: none)" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[routes]\nx = 5", "edge.toml:2: routes.x: expected a table"),
        ("[routes.x]\nkid = 'echo'", 'edge.toml:1: routes.x.kind: missing: "echo" or "loopback"'),
        ("[routes.x]\nkind = 'ecko'", 'edge.toml:2: routes.x.kind: expected "echo" or "loopback"'),
        ("[routes.x]\nkind = ['echo']", 'routes.x.kind: expected "echo" or'),
        ("[routes.x]\nkind = 'echo'\nurl = 'wss://x'", "edge.toml:3: routes.x.url: unknown key"),
        ("[routes.'a b']\nkind = 'echo'", "routes.'a b': a route's name is 1 to 64 letters"),
        (f"[routes.{'x' * 65}]\nkind = 'echo'", ": a route's name is 1 to 64 letters"),
        ("[routes.x]\nkind = 'twilio'", "edge.toml:1: routes.x.url: missing"),
        (
            f"[routes.x]\nkind = 'twilio'\n{URL}queue_mx = 1",
            'edge.toml:4: routes.x.queue_mx: unknown key; did you mean "queue_max"?',
        ),
        (
            f"[routes.x]\nkind = 'websocket'\n{URL}rate_hz = 44100",
            "edge.toml:4: routes.x.rate_hz: expected 8000 or 16000 or 24000 or 48000",
        ),
        (f"[routes.x]\nkind = 'websocket'\n{URL}rate_hz = 8000.0", "rate_hz: expected 8000 or"),
        (
            f"[routes.x]\nkind = 'websocket'\n{URL}rate_hz = 8000\nencoding = 'opus'",
            "edge.toml:4: routes.x.rate_hz: Opus packets are on a clock of 48000 Hz; leave it out",
        ),
        (f"[routes.x]\nkind = 'realtime'\n{URL}", "edge.toml:1: routes.x.model: missing"),
        (f"[routes.x]\nkind = 'realtime'\n{URL}model = ''", "routes.x.model: expected a string of"),
        (
            f"[routes.x]\nkind = 'realtime'\n{URL}model = 'm'\ngather_ms = 30",
            "routes.x.gather_ms: expected an integer that's a multiple of 20",
        ),
        (
            f"[routes.x]\nkind = 'realtime'\n{URL}model = 'm'\nsession = {{ a = [07:32:00] }}",
            "edge.toml:5: routes.x.session.a[0]: JSON has no dates and times; write a string",
        ),
        (
            f"[routes.x]\nkind = 'realtime'\n{URL}model = 'm'\nsession.a.b = -inf",
            "edge.toml:5: routes.x.session.a.b: JSON has no such number",
        ),
        (
            f"[routes.x]\nkind = 'twilio'\n{URL}headers = {{ X = 'a', x = 'a' }}",
            "edge.toml:4: routes.x.headers.x: is named twice: case does not count",
        ),
        (
            "[routes.x]\nkind = 'twilio'\nurl = 'ws://[::1]/'\nca_file = '/ca.pem'",
            "edge.toml:4: routes.x.ca_file: a ws:// connection has no certificate to check",
        ),
    ],
)
def test_wrong_routes(text: str, expected: str) -> None:
    [problem] = problems(f"{text}\n[routes.default]\nkind = 'echo'")
    assert expected in problem


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost", True),
        ("127.0.0.9:9000", True),
        ("[::1]:9000", True),
        ("10.1.2.3", True),
        ("[fd00::7]", True),
        ("backend.internal:9000", False),
        ("198.51.101.7", False),
        ("[2600::7]", False),
    ],
)
def test_voices_do_not_cross_networks_in_the_clear(host: str, good: bool) -> None:
    text = f"[routes.default]\nkind = 'twilio'\nurl = 'ws://{host}/media'\n"
    decode_config(text.replace("ws:", "wss:"), "edge.toml")
    decode_config(f"{text}insecure = true", "edge.toml")
    if good:
        decode_config(text, "edge.toml")
    else:
        [problem] = problems(text)
        assert problem.startswith("edge.toml:3: routes.default.url: ws:// is for loopback")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('key = "geheim\\u00e4"', "key: expected 1 to 4096 printable ASCII characters"),
        ('key = "geheim\\r\\nX: y"', "key: expected 1 to 4096 printable ASCII characters"),
        ("key = ' geheim'", "key: expected 1 to 4096 printable ASCII characters"),
        ("key = 'geheim'\nkey_file = '/k'", "edge.toml:6: routes.default.key_file: either a key"),
        ("key_file = 'k'", "key_file: 'k' is not an absolute path"),
        (
            "key = 'geheim'\nheaders = { authorization = 'geheim' }",
            "edge.toml:6: routes.default.headers.authorization: the key is sent in this header",
        ),
        ("headers = { Host = 'geheim' }", "headers.Host: this header belongs to the WebSocket"),
        ("headers = { Sec-WebSocket-Key = 'geheim' }", "headers.Sec-WebSocket-Key: this header"),
        ("headers = { 'a b' = 'geheim' }", "headers.'a b': not a header name"),
        ("headers = { A = ['geheim'] }", "headers.A: expected a string"),
        ("headers = { A = '' }", "headers.A: expected 1 to 4096 printable"),
        ("url2 = 'geheim'", 'url2: unknown key; did you mean "url"?'),
    ],
)
def test_problems_of_routes_never_show_secrets(line: str, expected: str) -> None:
    text = f"[routes.default]\nkind = 'realtime'\nmodel = 'm'\n{URL}{line}"
    [problem] = problems(text)
    assert expected in problem
    assert "geheim" not in problem


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x/geheim", "starts with ws:// or wss://"),
        ("wss://u:geheim@x/", "no user or password in the URL; use headers"),
        ("wss://x/?geheim#f", "a WebSocket URL has no fragment"),
        ("wss:///geheim", "the URL names no host"),
        ("wss://x:0/geheim", "the URL names no host or no usable port"),
        ("wss://x:99999/geheim", "its host or port is malformed"),
        ("wss://[::1/geheim", "its host or port is malformed"),
        ("wss://x/ge heim", "printable ASCII characters without blanks"),
        ("wss://x/geheim\\n", "printable ASCII characters without blanks"),
        ("", "printable ASCII characters without blanks"),
    ],
)
def test_urls_that_are_none(url: str, expected: str) -> None:
    [problem] = problems(f'[routes.default]\nkind = "twilio"\nurl = "{url}"')
    assert problem.startswith("edge.toml:3: routes.default.url: ")
    assert expected in problem
    assert "geheim" not in problem


def test_secrets_of_routes_do_not_show_in_the_config_object() -> None:
    config = decode_config(
        "[routes.default]\nkind = 'realtime'\nmodel = 'm'\nkey = 'geheim'\n"
        "url = 'wss://x/y?key=geheim'\nheaders = { A = 'geheim' }",
        "edge.toml",
    )
    route = config.routes[RouteName("default")]
    assert isinstance(route, RealtimeRoute)
    for text in (repr(config), f"{config}", f"{route.key}", f"{route.headers}"):
        assert "geheim" not in text
    assert route.url.without_query == "wss://x/y"


def test_changed_routes_do_not_wait() -> None:
    def routes(agent: str, *names: str) -> Config:
        tables = "".join(f"[routes.{name}]\nkind = 'echo'\n" for name in names)
        return decode_config(f"{tables}[routes.agent]\nkind = 'twilio'\n{agent}", "edge.toml")

    old, new = routes(URL, "default", "a"), routes(f"{URL}attempts = 2", "default", "b")
    assert waiting_keys(old, new) == []
    assert apply_live(old, new).routes == new.routes
