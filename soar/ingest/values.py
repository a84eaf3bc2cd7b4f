"""Values out of alerts, made safe to show, to compare and to store.

Two rules. Text that people read (titles, labels) has control and direction characters *removed*. Text that names
something (a user, a host, a path) has them *replaced* by U+FFFD: removing would turn one name into another, and
`admin` written with an invisible character must never become an order to disable `admin`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

MAX_TITLE = 512
MAX_DESCRIPTION = 8_192
MAX_NAME = 1_024
MAX_LONG = 4_096  # command lines, addresses of web pages
MAX_LABEL = 256

# C0 and C1 controls; Unicode's explicit direction marks (UAX #9); line and paragraph separators.
_LINE_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_BLOCK_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")
_HEX = re.compile(r"[0-9a-f]+")
_EMAIL = re.compile(r"[^\s@<>\"']{1,64}@[^\s@<>\"']{1,255}")
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62}\.)+[a-z][a-z0-9-]{1,62}")
_HASHES = {"sha256": 64, "sha1": 40, "md5": 32}


def scalar(value: Any) -> str | None:
    """The text of text and numbers; None for null, true, false, lists and objects, which name nothing."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def shorten(text: str, limit: int) -> str:
    """The text, cut to `limit` characters with an ellipsis where it is longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def line(value: Any, limit: int = MAX_TITLE) -> str | None:
    """One line for people, or None where nothing is left."""
    text = value if type(value) is str else scalar(value)
    if text is None:
        return None
    if not text.isprintable():
        text = _LINE_HIDDEN.sub("", _BREAKS.sub(" ", text))
    text = text.strip()
    return (text if len(text) <= limit else shorten(text, limit)) or None


def label(value: Any) -> str | None:
    """One line for people, short: true and false are words, a list is joined by commas."""
    if type(value) is str:
        return line(value, MAX_LABEL)
    items = value[:MAX_LABEL] if isinstance(value, list) else [value]
    words = [str(item).lower() if isinstance(item, bool) else scalar(item) for item in items]
    return line(", ".join(word for word in words if word), MAX_LABEL)


def block(value: Any) -> str | None:
    """Several lines for people, or None where nothing is left."""
    text = scalar(value)
    if text is None:
        return None
    if not text.isprintable():
        text = _BLOCK_HIDDEN.sub("", text.replace("\r\n", "\n"))
    return shorten(text.strip(), MAX_DESCRIPTION) or None


def name(value: Any, limit: int = MAX_NAME) -> str | None:
    """What names a thing: trimmed, visibly marked where it holds hidden characters, never silently another name."""
    text = value if type(value) is str else scalar(value)
    if text is None:
        return None
    text = text.strip()
    if not text.isprintable():
        text = _LINE_HIDDEN.sub("\ufffd", text)
    return (text if len(text) <= limit else shorten(text, limit)) or None


def long_name(value: Any) -> str | None:
    """As `name`, for command lines, paths and web addresses."""
    return name(value, MAX_LONG)


def address(value: Any) -> str | None:
    """An IP address in its usual spelling; an IPv4 address mapped into IPv6 is given as IPv4."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    if _IPV4.fullmatch(value):
        return value  # nearly all are, and parsing one takes ten times as long
    text = value.strip().rstrip(".").removeprefix("[").removesuffix("]")
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def email(value: Any) -> str | None:
    """A mail address, also out of `Name <address>`, or None for what is none."""
    text = name(value) or ""
    text = text.rpartition("<")[2].removesuffix(">") if text.endswith(">") else text
    return text if _EMAIL.fullmatch(text) else None


def domain(value: Any) -> str | None:
    """A domain name in lower case, without its last dot, or None for what is none (such as an IP address)."""
    text = name(value)
    text = text.lower().rstrip(".") if text else ""
    return text if _DOMAIN.fullmatch(text) else None


def pid(value: Any) -> int | None:
    """An operating system's process id; products' own 64-bit process ids are none."""
    text = scalar(value)
    if text is None or not text.isdecimal() or len(text) > 10:
        return None
    number = int(text)
    return number if number < 1 << 32 else None


def _hash(value: Any, kind: str) -> str | None:
    text = value.strip().lower().removeprefix(f"{kind}:") if isinstance(value, str) else ""
    if len(text) != _HASHES[kind] or not _HEX.fullmatch(text):
        return None
    return text if text.strip("0") else None  # all zeros is a product's way to say "not computed"


def sha256(value: Any) -> str | None:
    """A SHA-256 in lower-case hex."""
    return _hash(value, "sha256")


def sha1(value: Any) -> str | None:
    """A SHA-1 in lower-case hex."""
    return _hash(value, "sha1")


def md5(value: Any) -> str | None:
    """An MD5 in lower-case hex."""
    return _hash(value, "md5")
