"""The identity provider over real connections: what is taken of it, and what nobody can make it say."""

from __future__ import annotations

import hmac
import json
import logging
import time
import warnings
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import RSAKey

from orchestrator.accounts import Ticket
from orchestrator.domain.errors import Fault, Refused, TendonError, Transient
from orchestrator.outgoing.idtoken import TokenError, claims_of, keys_of
from orchestrator.outgoing.provider import MOST_BYTES, Client, OpenIdProvider
from tests.dicom_peers import free_port
from tests.servers.provider import CLIENT, EC, RSA, SECRET, id_provider

with warnings.catch_warnings():
    import authlib.deprecate

    warnings.simplefilter("ignore", authlib.deprecate.AuthlibDeprecationWarning)
    from oidc_provider_mock import User, run_server_in_thread

if TYPE_CHECKING:
    from tests.servers.provider import IdProvider

CALLBACK = "https://tendon.example/oidc/callback"
TICKET = Ticket("state-" * 6, "nonce-" * 6, "verifier-" * 6)


@pytest.fixture
def there():
    with id_provider() as provider:
        yield provider


def client_of(issuer: str) -> Client:
    return Client(issuer=issuer, id=CLIENT, secret=SECRET, callback=CALLBACK)


def opened(there: IdProvider, **given: Any) -> OpenIdProvider:
    return OpenIdProvider(client_of(there.issuer), **given)


def come_back(provider: OpenIdProvider, there: IdProvider, ticket: Ticket = TICKET, **other: str) -> Any:
    """The claims after a visit; `other` takes the place of what was kept."""
    url = there.visit(provider.begin(ticket, again=False))
    code = parse_qs(urlsplit(url).query)["code"][0]
    kept = {"nonce": ticket.nonce, "verifier": ticket.verifier, **other}
    return provider.finish(code, **kept, now=datetime.now(UTC))


def failure(provider: OpenIdProvider, there: IdProvider, **other: str) -> TendonError:
    with pytest.raises(TendonError) as raised:
        come_back(provider, there, **other)
    assert raised.value.fault is Fault.PROVIDER_FAILED
    return raised.value


def test_the_browser_is_sent_with_state_nonce_and_challenge_but_no_secret(there):
    provider = OpenIdProvider(replace(client_of(there.issuer), acrs=("mfa", "phr")))
    url = provider.begin(TICKET, again=False)
    assert url.startswith(f"{there.issuer}/authorize?")
    asked = {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}
    challenge = asked.pop("code_challenge")
    assert asked == {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": CALLBACK,
        "scope": "openid profile email",
        "state": TICKET.state,
        "nonce": TICKET.nonce,
        "code_challenge_method": "S256",
        "acr_values": "mfa phr",
    }
    assert len(challenge) == 43
    assert TICKET.verifier not in url
    assert SECRET not in url
    again = parse_qs(urlsplit(provider.begin(TICKET, again=True)).query)
    assert (again["prompt"], again["max_age"]) == (["login"], ["0"])


def test_the_scope_of_the_groups_is_asked_for_where_there_is_one(there):
    there.metadata = {"scopes_supported": ["openid", "groups"], "authorization_endpoint": f"{there.issuer}/a?b=c"}
    url = opened(there).begin(TICKET, again=False)
    assert url.startswith(f"{there.issuer}/a?b=c&response_type=code")
    assert parse_qs(urlsplit(url).query)["scope"] == ["openid profile email groups"]


@pytest.mark.parametrize(
    ("algorithm", "key"), [("RS256", RSA), ("PS384", RSA), ("ES256", EC)], ids=lambda given: str(given)[:5]
)
def test_the_claims_of_who_has_signed_in_are_given(there, algorithm, key):
    there.algorithm, there.key = algorithm, key
    provider = opened(there)
    assert come_back(provider, there)["sub"] == "4711"
    assert come_back(provider, there)["groups"] == ["radiology"]
    assert len([asked for asked in there.asked if asked.startswith("GET")]) == 2, "metadata and keys are kept"


def test_a_provider_that_wants_the_secret_in_the_form_gets_it_there(there):
    there.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"]}
    assert come_back(opened(there), there)["sub"] == "4711"


def test_a_code_is_of_no_use_without_its_verifier(there):
    assert "status 400" in str(failure(opened(there), there, verifier="another " * 6))


def test_a_code_is_of_no_use_twice(there):
    provider = opened(there)
    url = there.visit(provider.begin(TICKET, again=False))
    code = parse_qs(urlsplit(url).query)["code"][0]
    kept = {"nonce": TICKET.nonce, "verifier": TICKET.verifier, "now": datetime.now(UTC)}
    assert provider.finish(code, **kept)
    with pytest.raises(Refused):
        provider.finish(code, **kept)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"nonce": "another"}, "is not of this sign-in"),
        ({"nonce": None}, "is not of this sign-in"),
        ({"aud": "another"}, "is meant for others"),
        ({"aud": [CLIENT, "another"]}, "was asked for by others"),
        ({"iss": "https://id.evil.example"}, "is of another issuer"),
        ({"exp": time.time() - 61}, "has expired"),
        ({"exp": "never"}, "has expired"),
        ({"iat": time.time() + 3600}, "is from the future"),
        ({"sub": ""}, "names nobody"),
    ],
)
def test_a_token_that_is_signed_but_not_for_this_sign_in_is_refused(there, claims, why):
    there.tamper = lambda right: there.signed({**right, **claims})
    assert why in str(failure(opened(there), there))


def without_signature(there: IdProvider, claims: dict[str, Any]) -> str:
    header, body = ({"alg": "none", "kid": "rsa"}, claims)
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, body)) + "."


def by_the_public_key_as_a_secret(there: IdProvider, claims: dict[str, Any]) -> str:
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, claims)]
    signature = hmac.digest(RSA.as_pem(private=False), b".".join(parts), "sha256")
    return b".".join([*parts, urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def by_another_key_under_the_same_name(there: IdProvider, claims: dict[str, Any]) -> str:
    return there.signed(claims, key=RSAKey.generate_key(2048, {"kid": "rsa"}))


def with_its_own_key(there: IdProvider, claims: dict[str, Any]) -> str:
    own = RSAKey.generate_key(2048, {"kid": "own"})
    return there.signed(claims, key=own, jwk=own.as_dict(private=False))


def changed_after_signing(there: IdProvider, claims: dict[str, Any]) -> str:
    header, _, signature = there.signed(claims).split(".")
    body = urlsafe_b64encode(json.dumps({**claims, "sub": "admin"}).encode()).rstrip(b"=").decode()
    return f"{header}.{body}.{signature}"


def of_a_critical_kind(there: IdProvider, claims: dict[str, Any]) -> str:
    """With a member that must be understood, which the signer's own library would not let through."""
    header = {"alg": "RS256", "kid": "rsa", "crit": ["exp"], "exp": 1}
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = RSA.private_key.sign(b".".join(parts), PKCS1v15(), SHA256())
    return b".".join([*parts, urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize(
    "forged",
    [
        without_signature,
        by_the_public_key_as_a_secret,
        by_another_key_under_the_same_name,
        with_its_own_key,
        changed_after_signing,
        of_a_critical_kind,
        lambda there, claims: "",
        lambda there, claims: "a.b.c",
        lambda there, claims: "....",
        lambda there, claims: "é" * 100,
        lambda there, claims: "[" * 90_000,
        lambda there, claims: ["a"],
        lambda there, claims: jws.serialize_compact({"alg": "RS256"}, "[1]", RSA, algorithms=["RS256"]),
    ],
)
def test_what_the_provider_has_not_signed_is_refused(there, forged):
    there.tamper = lambda claims: forged(there, claims)
    assert isinstance(failure(opened(there), there), Refused)


def test_a_short_key_is_no_key(there):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short = RSAKey.import_key(rsa.generate_private_key(65537, 1024), {"kid": "short"})
    there.keys, there.key = [short], short
    assert "does not show" in str(failure(opened(there), there))


def test_keys_that_were_changed_are_fetched_anew_but_once_a_minute(there):
    moment = [0.0]
    provider = opened(there, monotonic=lambda: moment[0])
    assert come_back(provider, there)
    new = RSAKey.generate_key(2048, {"kid": "new"})
    there.keys, there.key = [new], new
    for _ in range(3):
        assert "does not show" in str(failure(provider, there))
    moment[0] += 61
    assert come_back(provider, there)
    there.key = RSA
    for _ in range(5):
        failure(provider, there)
    assert len([asked for asked in there.asked if asked.endswith("/keys")]) == 2


def test_a_key_without_a_name_is_taken_where_it_is_the_only_one_of_its_kind(there):
    nameless = RSAKey.import_key(RSA.as_pem())
    there.tamper = lambda claims: there.signed(claims, kid=None)
    there.keys = [nameless, EC]
    assert come_back(opened(there), there)
    there.keys = [RSA, RSAKey.generate_key(2048, {"kid": "other"})]
    assert "does not say which key" in str(failure(opened(there), there))


def test_a_provider_that_is_down_is_told_and_not_asked_again_at_once():
    moment, port = [0.0], free_port()
    provider = OpenIdProvider(client_of(f"http://127.0.0.1:{port}"), monotonic=lambda: moment[0])
    for _ in range(2):
        with pytest.raises(Transient, match="cannot be reached"):
            provider.begin(TICKET, again=False)
    with id_provider() as there:
        provider = opened(there, monotonic=lambda: moment[0])
        there.bodies = {"/openid-configuration": (503, b"")}
        for _ in range(3):
            with pytest.raises(Transient, match="status 503"):
                provider.begin(TICKET, again=False)
        assert len(there.asked) == 1
        there.bodies = {}
        moment[0] += 11
        assert provider.begin(TICKET, again=False)


def test_a_provider_that_is_slow_to_fail_is_not_asked_again_at_once_either(there):
    moment, asked = [0.0], []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        moment[0] += 10
        raise OSError

    provider = opened(there, resolve=resolve, monotonic=lambda: moment[0])
    for _ in range(3):
        with pytest.raises(Transient, match="host is not known"):
            provider.begin(TICKET, again=False)
    assert len(asked) == 1


KEYS = keys_of({"keys": [key.as_dict(private=False) for key in (RSA, EC)]})
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "jwk", "typ"]), JSON | st.just("RS256"))


@given(HEADERS, st.binary(max_size=50), st.binary(max_size=300))
def test_no_header_makes_a_token_of_what_nobody_signed(header, body, signature):
    parts = (json.dumps(header).encode(), body, signature)
    token = ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    with pytest.raises(TokenError):
        claims_of(token, KEYS)


@settings(max_examples=30)
@given(st.lists(st.dictionaries(st.sampled_from(["kty", "n", "e", "crv", "x", "y", "use", "kid"]), JSON), max_size=3))
def test_keys_that_are_none_are_left_out(given_keys):
    kinds = [{**key, "kty": kind} for key in given_keys for kind in ("RSA", "EC", "oct")]
    assert keys_of({"keys": kinds}) == ()
    assert len(keys_of({"keys": [*kinds, EC.as_dict(private=False)]})) == 1


@pytest.mark.parametrize(
    ("path", "instead", "kind"),
    [
        ("/openid-configuration", (200, b"{" + b" " * MOST_BYTES + b"}"), Transient),
        ("/openid-configuration", (200, b"no JSON"), Transient),
        ("/openid-configuration", (200, b"[" * 100_000), Transient),
        ("/openid-configuration", (302, b""), Transient),
        ("/keys", (200, b" " * (MOST_BYTES + 1)), Transient),
        ("/keys", (404, b"{}"), Transient),
        ("/keys", (200, b'{"keys": 7}'), Refused),
        ("/keys", (200, b'{"keys": [7, {"kty": "RSA"}, {"kty": "RSA", "n": 5, "e": "!"}, {"kty": []}]}'), Refused),
        ("/token", (200, b" " * (MOST_BYTES + 1)), Transient),
        ("/token", (502, b"<html>"), Transient),
        ("/token", (307, b""), Refused),
        ("/token", (200, b"[]"), Refused),
        ("/token", (200, b"\xff"), Refused),
    ],
)
def test_an_answer_that_is_none_ends_the_sign_in_and_nothing_else(there, path, instead, kind):
    there.bodies = {path: instead}
    assert isinstance(failure(opened(there), there), kind)
    assert not [asked for asked in there.asked if "elsewhere" in asked]


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://id.evil.example"},
        {"token_endpoint": "http://169.254.169.254/token"},
        {"jwks_uri": "http://id.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://id.example/#"},
        {"token_endpoint": None},
    ],
)
def test_metadata_that_lead_elsewhere_are_not_followed(there, metadata):
    there.metadata = metadata
    with pytest.raises(Transient):
        opened(there).begin(TICKET, again=False)
    assert len(there.asked) == 1


def test_a_token_endpoint_at_a_forbidden_address_is_not_called(there):
    there.metadata = {"token_endpoint": "https://meta.example/token"}
    provider = opened(there, resolve=lambda host, port: ["127.0.0.1" if host == "127.0.0.1" else "169.254.169.254"])
    assert "gives away a machine's secrets" in str(failure(provider, there))


def test_nothing_that_the_provider_says_is_logged(there, caplog):
    caplog.set_level(logging.DEBUG, "tendon")
    provider = opened(there)
    failure(provider, there, verifier="another " * 6)
    there.tamper = lambda claims: there.signed({**claims, "aud": "x"})
    failure(provider, there)
    text = caplog.text
    assert "status 400" in text
    assert not any(said in text for said in ("4711", SECRET, TICKET.nonce, TICKET.verifier, "eyJ", "invalid_grant"))


@pytest.mark.filterwarnings("ignore:get_jwt_config:DeprecationWarning")
def test_the_flow_goes_with_a_provider_that_others_have_written():
    ann = User(sub="ann", claims={"groups": ["radiology"], "preferred_username": "ann"})
    with run_server_in_thread(user_claims=(ann,)) as server:
        provider = OpenIdProvider(client_of(f"http://localhost:{server.server_port}"))
        url = provider.begin(TICKET, again=False)
        answer = httpx.post(url, data={"sub": "ann"}, follow_redirects=False)
        back = urlsplit(answer.headers["location"])
        assert answer.headers["location"].startswith(CALLBACK)
        given = parse_qs(back.query)
        assert given["state"] == [TICKET.state]
        kept = {"nonce": TICKET.nonce, "verifier": TICKET.verifier, "now": datetime.now(UTC)}
        claims = provider.finish(given["code"][0], **kept)
        assert (claims["sub"], claims["groups"], claims["preferred_username"]) == ("ann", ["radiology"], "ann")
        with pytest.raises(Refused):
            provider.finish(given["code"][0], **kept)
