"""Failed logins: so many per minute from one place, and for one name.

The table is bounded, and nothing that counts is ever forgotten to make room: where it is full, whoever is not in it
waits until some of it is a minute old. So ten thousand other names or addresses clear nothing.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict, deque

from fastapi import HTTPException

MOST_FAILED = 10
"""Failed logins that one place, or one name, has in `WITHIN_S`."""
WITHIN_S = 60.0
MOST_KEPT = 10_000
"""Places and names that are counted at a time. Passwords fail no faster than scrypt: some hundred times a minute."""
IPV6_PREFIX = 64
"""The part of an IPv6 address that is counted: the rest of it every computer may choose as it likes."""
NOWHERE = "an address that is none"


def place(host: str) -> str:
    """What is counted as one place: an IPv4 address, or the network of an IPv6 address.

    >>> place("::ffff:192.0.2.7"), place("2001:db8::1:2:3:4")
    ('192.0.2.7', '2001:db8::/64')
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a proxy may pass on anything
        return NOWHERE
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), IPV6_PREFIX), strict=False))


class Attempts:
    """The failed logins of the last minute. `at`: seconds of a clock that never goes back."""

    def __init__(self, most: int = MOST_FAILED, within_s: float = WITHIN_S, kept: int = MOST_KEPT) -> None:
        self._most, self._within_s, self._kept = most, within_s, kept
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()  # whoever failed last is the last
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._failed)

    def check(self, at: float, *keys: str) -> None:
        """Refuses whoever has failed too often, and whom there is no room to count."""
        with self._lock:
            self._forget(at)
            full = len(self._failed) + len(keys) > self._kept
            for key in keys:
                times = self._failed.get(key)
                too_many = times is not None and sum(time > at - self._within_s for time in times) >= self._most
                if too_many or (times is None and full):
                    raise HTTPException(429, "too many attempts; wait a minute, or open your invitation link")

    def failed(self, at: float, *keys: str) -> None:
        """Counts a failed login."""
        with self._lock:
            self._forget(at)
            for key in keys:
                if key in self._failed or len(self._failed) < self._kept:
                    self._failed.setdefault(key, deque(maxlen=self._most)).append(at)
                    self._failed.move_to_end(key)

    def _forget(self, at: float) -> None:
        """Removes those whose last failure is over."""
        while self._failed:
            key = next(iter(self._failed))
            if self._failed[key][-1] > at - self._within_s:
                return
            del self._failed[key]
