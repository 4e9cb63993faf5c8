import pytest

from qorch.url import parse_url


@pytest.mark.parametrize(
    ("url", "driver", "properties"),
    [
        ("https://h/a.iso", "https", {"url": "https://h/a.iso"}),
        (
            "nbd://h/e",
            "nbd",
            {"server": {"type": "inet", "host": "h", "port": "10809"}, "export": "e"},
        ),
        ("nbd+unix:///?socket=/s", "nbd", {"server": {"type": "unix", "path": "/s"}}),
        (
            "iscsi://u@h:3260/iqn.a:b/2",
            "iscsi",
            {"transport": "tcp", "portal": "h:3260", "target": "iqn.a:b", "lun": 2, "user": "u"},
        ),
        (
            "ssh://u@h/p%20q",
            "ssh",
            {"server": {"host": "h", "port": "22"}, "path": "/p q", "user": "u"},
        ),
        (
            "rbd:pool/image@snap:id=me:mon_host=m1\\:6321;m2",
            "rbd",
            {
                "pool": "pool",
                "image": "image",
                "snapshot": "snap",
                "user": "me",
                "server": [{"host": "m1", "port": "6321"}, {"host": "m2", "port": "6789"}],
            },
        ),
        ("nfs://h/a/b", "nfs", {"server": {"type": "inet", "host": "h"}, "path": "/a/b"}),
        ("nvme://0000:01:00.0/2", "nvme", {"device": "0000:01:00.0", "namespace": 2}),
    ],
)
def test_a_url_is_what_qemu_s_driver_wants(url, driver, properties):
    """Server, name, user: each under QEMU's own name (qapi/block-core.json)."""
    assert parse_url(url) == (driver, properties)


def test_other_urls_are_refused():
    """With those that there are."""
    with pytest.raises(ValueError, match="is none of"):
        parse_url("gopher://h/")
