"""Id tokens: whether one of the provider's keys has signed them, and what they claim (RFC 7515, RFC 7517)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry
from joserfc.jws import JWSRegistry, deserialize_compact, extract_compact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from joserfc.jwk import Key

SIGNED_BY: Final[Mapping[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
}
"""Algorithms that are taken, and the kind of key of each: none that works with a secret, and not `none`."""
_SHORTEST_RSA: Final = 2048
_MOST_KEYS: Final = 100
_REGISTRY: Final = JWSRegistry(algorithms=tuple(SIGNED_BY), strict_check_header=False)
"""Further members of the header are let be, unless they are said to be critical."""


class TokenError(Exception):
    """The token is not one that the provider has signed; the text says why and quotes nothing."""


class UnknownKeyError(TokenError):
    """None of the keys is the one that the token names."""


def keys_of(document: object) -> tuple[Key, ...]:
    """The keys of a JWK Set that can verify signatures; what is not understood is left out."""
    keys = document.get("keys") if isinstance(document, dict) else None
    return tuple(_sound(keys[:_MOST_KEYS])) if isinstance(keys, list) else ()


def _sound(given: Sequence[object]) -> Iterator[Key]:
    for one in given:
        if not isinstance(one, dict) or one.get("kty") not in SIGNED_BY.values() or one.get("use", "sig") != "sig":
            continue
        try:
            if one["kty"] == "EC" or _bits(one["n"]) >= _SHORTEST_RSA:
                yield JWKRegistry.import_key({name: value for name, value in one.items() if isinstance(value, str)})
        except (JoseError, ValueError, TypeError, KeyError):
            continue


def _bits(modulus: str) -> int:
    return int.from_bytes(urlsafe_b64decode(f"{modulus}==")).bit_length()


def claims_of(token: object, keys: Sequence[Key]) -> Mapping[str, Any]:
    """What a token claims that one of the keys has signed. Raises TokenError, UnknownKeyError."""
    try:
        if not isinstance(token, str):
            raise TokenError("there is no id token")
        header = extract_compact(token.encode(), registry=_REGISTRY).headers()
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in SIGNED_BY:
            raise TokenError("the id token is not signed in a way that is taken")
        key = _key(keys, SIGNED_BY[algorithm], kid)
        claims = json.loads(deserialize_compact(token, key, registry=_REGISTRY).payload)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise TokenError("the id token is not one that the provider has signed") from error
    if not isinstance(claims, dict):
        raise TokenError("the id token claims nothing")
    return claims


def _key(keys: Sequence[Key], kind: str, kid: object) -> Key:
    """The key that is named; where none is, the only one of its kind."""
    found = [key for key in keys if key.key_type == kind and (kid is None or key.get("kid") == kid)]
    if kid is None and len(found) > 1:
        raise TokenError("the id token does not say which key has signed it")
    if not found:
        raise UnknownKeyError("the id token is signed by a key that the provider does not show")
    return found[0]
