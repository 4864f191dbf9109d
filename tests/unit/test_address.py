"""What Tendon never connects to, in every spelling, and which URLs it takes (S16)."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.address import MAX_URL, address_fault, host_fault, literal, url_fault

NEVER = [
    *("169.254.169.254", "169.254.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    *("0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255", "240.0.0.1"),
    *("::", "fe80::1", "fe80::1%eth0", "febf::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254"),
    *("::ffff:169.254.169.254", "::169.254.169.254", "::ffff:0:169.254.169.254", "::ffff:0.0.0.0"),
    *("64:ff9b::169.254.169.254", "64:ff9b:1::169.254.169.254", "64:ff9b:1:a9fe:a9:fe00::"),
    *("2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1", "2001:0:0808:0808:0:0:5601:5601", "fd01::5efe:169.254.169.254"),
    *("", "localhost", "1.2.3", "1.2.3.4.5"),
]
ONLY_INSIDE = [
    *("127.0.0.1", "127.255.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
    *("::1", "fd12::1", "fc00::1", "fec0::1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::"),
]
ANYWHERE = ["8.8.8.8", "172.32.0.1", "100.128.0.1", "169.253.1.1", "2606:4700::1111", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", NEVER)
def test_no_connection_is_made_to(address):
    assert address_fault(address)
    assert address_fault(address, https_only=True)


@pytest.mark.parametrize("address", ONLY_INSIDE)
def test_this_machine_and_private_networks_are_reached_unless_only_https_is_wanted(address):
    assert address_fault(address) == ""
    assert address_fault(address, https_only=True)


@pytest.mark.parametrize("address", ANYWHERE)
def test_public_addresses_are_reached(address):
    assert address_fault(address) == ""
    assert address_fault(address, https_only=True) == ""


METADATA = [
    "169.254.169.254",
    "169.254.169.254.",
    "2852039166",
    "0xa9fea9fe",
    "0xA9FEA9FE",
    "025177524776",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "0xa9.254.0251.254",
    "169.254.43518",
    "169.16689662",
    "0251.0xfea9fe",
    "00000251.254.169.254",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "[fd00:ec2::254]",
    "[FD00:0EC2:0:0:0:0:0:254]",
    "[fe80::1]",
    "0",
    "0x",
    "0.0.0.0",
    "[::]",
]


@pytest.mark.parametrize("host", METADATA)
def test_no_spelling_of_a_forbidden_address_passes(host):
    assert url_fault(f"http://{host}/latest/meta-data/")
    assert url_fault(f"https://{host}:8443/")
    assert host_fault(host)
    assert host_fault(f" {host} ")


FAULTY = {
    "": "must begin",
    "https": "must begin",
    "https:/hook.example/": "must begin",
    "//hook.example/": "must begin",
    "ftp://hook.example/": "must begin",
    "file:///etc/passwd": "must begin",
    "gopher://hook.example/": "must begin",
    "javascript:alert(1)": "must begin",
    " https://hook.example/": "printable ASCII",
    "https://hook.example/ x": "printable ASCII",
    "https://hook.example/\r\nHost: other": "printable ASCII",
    "https://hook.example/\t": "printable ASCII",
    "https://hook.example\x00.other/": "printable ASCII",
    "https://hook.example\\@other/": "printable ASCII",
    "https://hook.exämple/": "printable ASCII",
    "https://①⑥⑨.②⑤④.169.254/": "printable ASCII",
    "https://169。254。169。254/": "printable ASCII",
    "https://user@hook.example/": "no user name",
    "https://user:password@hook.example/": "no user name",
    "https://hook.example:443@169.254.169.254/": "no user name",
    "https://@hook.example/": "no user name",
    "https://": "no host",
    "https:///path": "no host",
    "https://:443/": "no host",
    "https://?q": "no host",
    "https://#a": "no #",
    "https://hook.example/#a": "no #",
    "https://hook.example:/": "no host with a port",
    "https://hook.example:0/": "no host with a port",
    "https://hook.example:65536/": "no host with a port",
    "https://hook.example:-1/": "no host with a port",
    "https://hook.example:80:80/": "no host",
    "https://hook.example:\uff18\uff10/": "printable ASCII",
    "https://hook..example/": "no host",
    "https://-hook.example/": "no host",
    "https://.hook.example/": "no host",
    "https://hook%2eexample/": "no host",
    "https://hook.example,other/": "no host",
    "https://256.1.1.1/": "does not end in a number",
    "https://1.2.3.4.5/": "does not end in a number",
    "https://09.1.1.1/": "does not end in a number",
    "https://hook.0x7f/": "does not end in a number",
    "https://4294967296/": "does not end in a number",
    "https://[hook.example]/": "no host",
    "https://[127.0.0.1]/": "no host",
    "https://[::1/": "no host",
    "https://[::g]/": "no host",
    "https://[::1%25eth0]/": "no host",
    "https://[::1]x/": "no host",
    "https://[::1][::1]/": "no host",
    "https://hook.example/" + "a" * MAX_URL: "longer than",
}


@pytest.mark.parametrize("url", FAULTY, ids=[ascii(url[:50]) for url in FAULTY])
def test_a_url_that_is_not_taken_says_why(url):
    assert FAULTY[url] in url_fault(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://hook.example",
        "https://hook.example/a/b?c=d&e=%20",
        "HTTPS://Hook.Example:8443/",
        "http://10.1.2.3:8080/hook",
        "http://localhost:8080/",
        "http://[::1]:8080/",
        "http://[2606:4700::1111]/",
        "http://under_score.example./",
        "https://xn--hook-example.example/@me",
        "https://hook.example:65535/?at=a@b.example",
    ],
)
def test_a_plain_url_is_taken(url):
    assert url_fault(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://hook.example/",
            "https://localhost/",
            "https://a.localhost./",
            "https://127.1/",
            "https://0x7f000001/",
        ),
        *(
            "https://10.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://192.168.257/",
            "https://017700000001/",
        ),
    ],
)
def test_only_https_to_public_addresses_is_taken_where_that_is_wanted(url):
    assert url_fault(url) == ""
    assert url_fault(url, https_only=True)
    assert url_fault("https://hook.example/", https_only=True) == ""


numbers = st.integers(0, 2**32 + 2**8)
spelt = st.tuples(numbers, st.sampled_from(["{}", "0{:o}", "0x{:x}", "{:o}", "{:x}", "00{:o}"])).map(
    lambda given: given[1].format(given[0])
)


@given(st.lists(spelt | st.integers(0, 260).map(str), min_size=1, max_size=5).map(".".join))
def test_what_the_resolver_takes_for_an_address_is_seen_as_that_address(host):
    try:
        packed = socket.inet_aton(host)
    except OSError:
        assert literal(host) is None
    else:
        assert literal(host) == IPv4Address(packed)
