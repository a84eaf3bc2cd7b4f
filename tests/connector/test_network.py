"""SSRF: no spelling of an address, and no name, leads anywhere but to a public address."""

import socket

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from soar.connector.client import Client
from soar.connector.network import GuardedTransport, refusal
from soar.connector.secret import SecretResolver
from soar.errors import NotSentError, RejectedError
from soar.model.action import Effect
from soar.model.clock import SystemClock

from .exchanges import answer, make_call, read_request, serving

NEVER = [  # refused even with allow_private
    "169.254.169.254", "169.254.0.1", "169.254.170.2", "0.0.0.0", "224.0.0.1", "239.255.255.250", "168.63.129.16",
    "fe80::1", "fe80::1%eth0", "::", "ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe",
    "64:ff9b::169.254.169.254", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254",
    "::ffff:0:169.254.169.254",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.0.0.2", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254",
    "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.9", "240.0.0.1", "255.255.255.255", "0.1.2.3", "::1", "fc00::1", "fd12:3456::1",
    "fec0::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::10.0.0.1", "2002:7f00:1::", "2002:c0a8:1::1",
    "2001:0:7f00:1::", "2001:0:808:808::80ff:fffe", "::ffff:0:127.0.0.1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]


@pytest.mark.parametrize("address", NEVER + PRIVATE)
def test_an_address_that_is_not_public_is_refused(address):
    assert refusal(address, allow_private=False)


@pytest.mark.parametrize("address", PRIVATE)
def test_allow_private_opens_private_addresses(address):
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_metadata_link_local_and_multicast_stay_shut_with_allow_private(address):
    assert refusal(address, allow_private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_passes(address):
    assert refusal(address, allow_private=False) is None


# What a URL's host can look like and a resolver, or a library on the way, may take for an address within.
SPELLINGS = [
    "127.1", "127.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "0177.0.0.01",
    "0x7f.1", "0", "0x0", "00.0.0.0", "127.0.0.1.", "localhost", "LOCALHOST", "localhost.", "LocalHost",
    "169.254.43518", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "10.1", "192.168.257", "3232235777",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[fe80::1]", "[fd00:ec2::254]", "127%2e0%2e0%2e1", "1%32%37.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_a_private_host_is_ever_dialled(host, call):
    """Refused as configuration, or before a byte is sent; a server listens on loopback and must hear nothing."""
    heard = []

    async def talk(reader, writer):
        heard.append(await reader.read(1))

    async with serving(talk) as url:
        port = url.rpartition(":")[2]
        try:
            client = Client(
                instance="x", base_url=f"https://{host}:{port}", resolver=SecretResolver({}), clock=SystemClock()
            )
        except ValueError:
            return
        try:
            with pytest.raises(NotSentError):
                await client.get("/", call=call)
        finally:
            await client.close()
    assert heard == []


class Answers(AbstractResolver):
    """A name server that an attacker owns: a different answer each time."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host, port=0, family=socket.AF_INET):
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            {"hostname": host, "host": each, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for each in found
        ]

    async def close(self):
        pass


def client_with(resolver: AbstractResolver, *, allow_private: bool, port: int = 80) -> Client:
    return Client(
        instance="x",
        base_url=f"{'http' if allow_private else 'https'}://product.example:{port}",
        resolver=SecretResolver({}),
        clock=SystemClock(),
        allow_private=allow_private,
        transport=GuardedTransport(allow_private=allow_private, resolver=resolver),
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.7"])
async def test_a_name_that_resolves_to_a_private_address_is_refused_before_sending(address, call):
    client = client_with(Answers([address]), allow_private=False)
    with pytest.raises(NotSentError, match=r"product\.example resolves to"):
        await client.get("/", call=call)
    await client.close()


async def test_one_bad_address_among_good_ones_refuses_the_name(call):
    client = client_with(Answers(["8.8.8.8", "127.0.0.1"]), allow_private=False)
    with pytest.raises(NotSentError, match="loopback"):
        await client.get("/", call=call)
    await client.close()


async def test_the_name_is_resolved_once_and_the_judged_address_is_dialled_under_the_configured_host(call):
    """A second answer (rebinding) is never asked for, and the server sees the configured name."""
    seen = []

    async def talk(reader, writer):
        seen.append(await read_request(reader))
        writer.write(answer())
        await writer.drain()

    async with serving(talk) as url:
        names = Answers(["127.0.0.1"], ["169.254.169.254"])
        client = client_with(names, allow_private=True, port=int(url.rpartition(":")[2]))
        assert (await client.get("/", call=call)).status == 200
        await client.close()
    assert names.asked == 1
    assert b"host: product.example:" in seen[0].lower()


async def test_the_socket_is_the_last_judge_where_a_resolver_lies_by_its_own_rules(call):
    """Even a resolver that is not guarded cannot make a socket to a refused address."""
    transport = GuardedTransport(allow_private=False, resolver=Answers(["8.8.8.8"]))
    session = transport.session()
    session.connector._resolver = Answers(["127.0.0.1"])
    with pytest.raises(aiohttp.ClientConnectorError, match="loopback"):
        await session.get("https://product.example:1/")
    await transport.close()


@pytest.mark.parametrize("location", ["http://169.254.169.254/latest/meta-data/", "//evil.example/", "/elsewhere"])
async def test_a_redirect_is_an_error_and_never_followed(location):
    seen = []

    async def talk(reader, writer):
        seen.append(await read_request(reader))
        writer.write(answer(b"", status="302 Found", headers=f"Location: {location}\r\n"))
        await writer.drain()

    async with serving(talk) as url:
        client = Client(
            instance="x", base_url=url, resolver=SecretResolver({}), clock=SystemClock(), allow_private=True
        )
        with pytest.raises(RejectedError, match="redirect"):
            await client.request("POST", "/a", call=make_call(Effect.UNSAFE))
        await client.close()
    assert len(seen) == 1


@pytest.mark.parametrize(
    "path",
    [
        "", "x", "//evil.example/", "/../admin", "/a/../../b", "/a/%2e%2e/b", "/a/.%2E/b", "/a/./b", "/a\\b", "/a?b=1",
        "/a#b", "/a b", "/a\r\nHost: evil", "/\u202e", "/caf\u00e9", "http://evil.example/", "@evil.example/",
    ],
)  # fmt: skip
async def test_a_path_cannot_leave_the_base_url(path, call):
    client = Client(instance="x", base_url="https://a.example/api", resolver=SecretResolver({}), clock=SystemClock())
    with pytest.raises(RejectedError, match="was not sent"):
        await client.get(path, call=call)
    await client.close()
