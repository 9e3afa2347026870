"""What of a changed configuration a reload applies."""

from edge.config import Config, apply_live, decode_config, live_problems, waiting_keys


def config(text: str) -> Config:
    return decode_config(text, "edge.toml")


def test_nothing_waits_if_nothing_differs() -> None:
    assert waiting_keys(config(""), config("")) == []


def test_live_keys_are_taken_and_others_are_kept() -> None:
    old = config("[signal]\nlisten = ['127.0.0.1:1']\ngrace = 1")
    new = config("[signal]\nlisten = ['127.0.0.1:2']\ngrace = 2\n[media]\ndtx = true")
    assert waiting_keys(old, new) == ["signal.listen"]
    live = apply_live(old, new)
    assert live.signal.listen == old.signal.listen
    assert live.signal.grace == 2
    assert live.media.dtx
    assert waiting_keys(old, live) == []


def test_routes_come_and_go() -> None:
    old = config("[routes.default]\nkind = 'echo'\n[routes.a]\nkind = 'echo'")
    new = config("[routes.default]\nkind = 'loopback'\n[routes.b]\nkind = 'echo'")
    assert waiting_keys(old, new) == []
    assert apply_live(old, new).routes == new.routes


def test_public_addresses_wait_for_the_addresses_that_they_belong_to() -> None:
    old = config("[relay]\nlisten = ['127.0.0.1:1']\npublic_addresses = ['192.0.2.1']")
    only = config("[relay]\nlisten = ['127.0.0.1:1']\npublic_addresses = ['192.0.2.2']")
    both = config(
        "[relay]\nlisten = ['127.0.0.1:1', '[::1]:1']\n"
        "public_addresses = ['192.0.2.1', '2001:db8::1']"
    )
    assert waiting_keys(old, only) == []
    assert apply_live(old, only).relay.public_addresses == only.relay.public_addresses
    assert waiting_keys(old, both) == ["relay.listen", "relay.public_addresses"]
    assert apply_live(old, both).relay == old.relay


def test_what_does_not_fit_to_what_stays_is_found() -> None:
    old = config("[signal]\nlisten = ['127.0.0.1:8080']")
    new = config("[signal]\nlisten = ['127.0.0.1:9']\n[relay]\ntcp_listen = []")
    assert list(live_problems(apply_live(old, new))) == []
    old = config("[relay]\ntcp_listen = ['127.0.0.1:443']\n")
    new = config("[relay]\nworkers = 256\nlisten = ['127.0.0.1:1']")
    assert waiting_keys(old, new) == ["relay.listen", "relay.tcp_listen"]
    problems = [path for path, _ in live_problems(apply_live(old, new))]
    assert problems == [("relay", "workers")]
