"""Passwords as the ledger keeps them: scrypt, with a salt of their own.

N = 2^15, r = 8, p = 3 is one of the settings that OWASP's Password Storage Cheat Sheet takes for equally strong (the
first of them, 2^17, 8, 1, takes 128 MB instead of 32): about 0.3 s of one core for every guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata

from labelwise.types import LabelwiseError

COST = {"n": 2**15, "r": 8, "p": 3}
MOST_BYTES = 64 * 2**20
SHORTEST, LONGEST = 10, 200
NOBODY = ("00" * 16, "00" * 64)
"""Salt and hash where there is no password: to compare with it takes as long, and never fits."""


def hash_password(password: str) -> tuple[str, str]:
    """A new salt and the hash, as hex text; a password that is too short or too long is refused."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise LabelwiseError(f"a password has {SHORTEST} to {LONGEST} characters, and this one has {len(password)}")
    salt = secrets.token_bytes(16)
    return salt.hex(), _scrypt(password, salt)


def fits(password: str, salt: str, known: str) -> bool:
    """Whether this is the password of which the salt and the hash are known."""
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), known)


def _scrypt(password: str, salt: bytes) -> str:
    typed = unicodedata.normalize("NFKC", password)  # keyboards differ in how they write an umlaut
    return hashlib.scrypt(typed.encode(), salt=salt, maxmem=MOST_BYTES, **COST).hex()
