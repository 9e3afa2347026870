from edge.dtls.keying import Role, exporter_bytes, split_material
from edge.srtp.profile import SrtpProfile


def test_layout_with_14_byte_salts() -> None:
    # RFC 5764 §4.2: client key, server key, client salt, server salt.
    profile = SrtpProfile.AES128_CM_HMAC_SHA1_80
    assert exporter_bytes(profile) == 60
    material = b"K" * 16 + b"k" * 16 + b"S" * 14 + b"s" * 14
    keying = split_material(profile, Role.CLIENT, material)
    assert keying.profile is profile
    assert keying.local == b"K" * 16 + b"S" * 14
    assert keying.remote == b"k" * 16 + b"s" * 14


def test_layout_with_12_byte_salts() -> None:
    # RFC 7714 §12: AEAD_AES_128_GCM has 96-bit salts.
    profile = SrtpProfile.AEAD_AES_128_GCM
    assert exporter_bytes(profile) == 56
    material = b"K" * 16 + b"k" * 16 + b"S" * 12 + b"s" * 12
    keying = split_material(profile, Role.CLIENT, material)
    assert keying.local == b"K" * 16 + b"S" * 12
    assert keying.remote == b"k" * 16 + b"s" * 12


def test_the_server_has_the_keys_the_other_way_round() -> None:
    for profile in SrtpProfile:
        material = bytes(range(exporter_bytes(profile)))
        client = split_material(profile, Role.CLIENT, material)
        server = split_material(profile, Role.SERVER, material)
        assert (server.local, server.remote) == (client.remote, client.local)


def test_keys_do_not_show_in_text() -> None:
    keying = split_material(SrtpProfile.AEAD_AES_128_GCM, Role.CLIENT, b"K" * 56)
    assert "K" * 8 not in repr(keying)
