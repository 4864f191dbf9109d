"""An identity provider for tests on loopback: strict about PKCE, and its id tokens can be made wrong in any way."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CLIENT, SECRET = "tendon", "a secret of the client"
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})


@dataclass
class IdProvider:
    """Who signs in next is told by `claims`; `tamper` makes another id token of its claims."""

    port: int = 0
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "4711", "groups": ["radiology"]})
    keys: list[Any] = field(default_factory=lambda: [RSA, EC])
    algorithm: str = "RS256"
    key: Any = field(default_factory=lambda: RSA)
    tamper: Callable[[dict[str, Any]], str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    bodies: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """What is answered at a path instead of what is right."""
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    shown_at: float | None = None
    """When the person has shown who he is; without it, now."""
    now: Callable[[], float] = time.time

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/realms/hospital"

    def visit(self, url: str, **other: str) -> str:
        """What the person's browser is sent back to when he has signed in there."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        code = token_urlsafe(8)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], **other})}"

    def signed(self, claims: Mapping[str, Any], *, key: Any = None, **header: Any) -> str:
        """An id token."""
        key = key or self.key
        given = {"alg": self.algorithm, "kid": key.get("kid"), "typ": "JWT", **header}
        protected = {name: value for name, value in given.items() if value is not None}
        return jws.serialize_compact(protected, json.dumps(claims), key, algorithms=[protected["alg"]])

    def token_for(self, asked: Mapping[str, str]) -> str:
        now = self.now()
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "exp": now + 300,
            "iat": now,
            "nonce": asked["nonce"],
            "auth_time": now if self.shown_at is None else self.shown_at,
            **self.claims,
        }
        return self.tamper(claims) if self.tamper else self.signed(claims)

    def answer(self, path: str, form: Mapping[str, list[str]], authorization: str) -> tuple[int, Any]:
        base = self.issuer
        if path.endswith("/openid-configuration"):
            return 200, {
                "issuer": base,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
                "jwks_uri": f"{base}/keys",
                **self.metadata,
            }
        if path.endswith("/keys"):
            return 200, {"keys": [key.as_dict(private=False) for key in self.keys]}
        asked = self.codes.pop(form.get("code", [""])[0], None)
        verifier = form.get("code_verifier", [""])[0]
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"][0] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant", "error_description": "4711 may not"}
        if not authorization.startswith("Basic ") and form.get("client_secret") != [SECRET]:
            return 401, {"error": "invalid_client"}
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": self.token_for(asked)}


@contextmanager
def id_provider() -> Iterator[IdProvider]:
    """A provider that signs in whoever visits."""
    provider = IdProvider()

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

        def _answer(self, form: Mapping[str, list[str]]) -> None:
            provider.asked.append(f"{self.command} {self.path}")
            status, found = provider.answer(self.path, form, self.headers.get("Authorization", ""))
            body = json.dumps(found).encode()
            for end, instead in provider.bodies.items():
                if self.path.endswith(end):
                    status, body = instead
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status in (301, 302, 307):
                self.send_header("Location", f"{provider.issuer}/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A caller that hangs up is no fault."""

    server = Server(("127.0.0.1", 0), Handler)
    provider.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
