"""Verify an exported journal with Python and the package `cryptography` alone; nothing else of its maker is needed.

    python verify.py [FOLDER] [--policy FILE] [--earlier CHECKPOINT]...

FOLDER    the export; by default the folder that this file stands in.
--policy  whose signatures to believe. By default FOLDER/policy, the log's own word: get it from somebody else.
--earlier a checkpoint that you kept from before: the log must still begin with exactly what it speaks of.

It reads every entry once and ends at the first thing that is wrong. What it checks, and which standard says how:

1. `checkpoint` is a signed note (c2sp.org/signed-note): the log's name, its number of entries and the root of its
   Merkle tree (c2sp.org/tlog-checkpoint), signed by a log key of the policy (c2sp.org/tlog-policy) and cosigned by as
   many of its witnesses as it asks for (c2sp.org/tlog-cosignature).
2. The entries in `tile/entries` give that root (RFC 9162, 2.1.1) and every tile between (c2sp.org/tlog-tiles).
3. Each entry of a run names the one before it by its hash and counts on from it: none inside a run was left out.
4. Each file in `payloads` is what its entry names: SHA-256 over 32 bytes of salt and the payload's own bytes.
"""

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LOG, WITNESS = b"\x01", b"\x04"  # types of keys
WIDTH = 256  # hashes in a full tile, entries in a full bundle


class NotVerifiedError(Exception):
    """What is wrong, in a sentence."""


def need(holds: object, otherwise: str) -> None:
    """End here, saying so, unless it holds."""
    if not holds:
        raise NotVerifiedError(otherwise)


def sha256(*parts: bytes) -> bytes:
    """The hash of these bytes, end to end."""
    return hashlib.sha256(b"".join(parts)).digest()


def decode(text: str) -> bytes:
    """Base64, in the one spelling that these bytes have."""
    raw = base64.b64decode(text, validate=True)
    need(base64.b64encode(raw).decode() == text, f"not in canonical base64: {text}")
    return raw


class Policy:
    """Whom to believe: `keys` by name and key id, and the groups of witnesses of which `quorum` must be satisfied."""

    def __init__(self, text: str) -> None:
        self.keys: dict[tuple[str, bytes], tuple[bytes, bytes, str]] = {}  # -> type, key, name within the policy
        self.groups: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.quorum = ""
        for line in text.splitlines():
            words = line.split()
            if words and not words[0].startswith("#"):
                need(self._take(*words), f"the policy has a line that makes no sense: {line}")
        need(self.quorum, "the policy has no quorum line")

    def _take(self, keyword: str, name: str, *rest: str) -> bool:
        if keyword == "log":
            return self._key(LOG, name, "")
        if name in self.groups and keyword in {"witness", "group"}:
            return False
        if keyword == "witness":
            self.groups[name] = (0, ())
            return self._key(WITNESS, rest[0], name)
        if keyword == "group":
            threshold = {"any": 1, "all": len(rest) - 1}.get(rest[0]) or int(rest[0])
            known = len(set(rest[1:]) & self.groups.keys())
            self.groups[name] = (threshold, rest[1:])
            return 1 <= threshold <= known == len(rest) - 1
        known_or_none = name == "none" or name in self.groups
        self.quorum, before = name, self.quorum
        return keyword == "quorum" and known_or_none and not before

    def _key(self, kind: bytes, text: str, name: str) -> bool:
        """Take in a verifier key `name+hex(id)+base64(type || key)`."""
        whose, key_id, encoded = text.split("+", 2)
        raw = decode(encoded)
        self.keys[whose, bytes.fromhex(key_id)] = (kind, raw[1:], name)
        return len(raw) == 33 and raw[:1] == kind and sha256(whose.encode(), b"\n", raw)[:4].hex() == key_id

    def satisfied(self, name: str, signed: set[str]) -> bool:
        """Whether this witness, or enough members of this group, cosigned."""
        threshold, members = self.groups.get(name, (0, ()))
        return name in {"none", *signed} or 0 < threshold <= sum(self.satisfied(each, signed) for each in members)


def open_checkpoint(note: str, policy: Policy, *, quorum: bool) -> tuple[int, bytes]:
    """Size and root of a checkpoint whose signatures are those that the policy asks for."""
    body, blank, signatures = note.rpartition("\n\n")
    need(blank and note.endswith("\n") and body.count("\n") == 2, "the checkpoint is not one")
    origin, size, root = body.split("\n")
    signed: set[str] = set()
    for line in signatures[:-1].split("\n"):
        dash, name, encoded = line.split(" ")
        raw, message = decode(encoded), f"{body}\n".encode()
        need(dash == "\u2014", f"not a signature line: {line}")
        kind, key, alias = policy.keys.get((name, raw[:4]), (b"", b"", ""))
        if kind == WITNESS:
            message = b"cosignature/v1\ntime %d\n%s" % (int.from_bytes(raw[4:12], "big"), message)
        if kind:  # otherwise somebody whom the policy does not know
            need(kind == WITNESS or name == origin, f"{name} cannot sign for the log {origin}")
            Ed25519PublicKey.from_public_bytes(key).verify(raw[12 if kind == WITNESS else 4 :], message)
            signed.add(alias)
    need("" in signed, "no log that the policy knows signed the checkpoint")
    need(not quorum or policy.satisfied(policy.quorum, signed), "too few witnesses cosigned the checkpoint")
    need(size == str(int(size)) and int(size) >= 0 and len(decode(root)) == 32, "the checkpoint has no size or no root")
    return int(size), decode(root)


def merge(nodes: list[bytes]) -> bytes:
    """The root over neighbouring subtrees, all of one size but perhaps the last, which may be smaller."""
    if len(nodes) == 1:
        return nodes[0]
    split = 1 << (len(nodes) - 1).bit_length() - 1
    return sha256(b"\x01", merge(nodes[:split]), merge(nodes[split:]))


def path(index: int, width: int = WIDTH) -> str:
    """Where in a folder number `index` stands: 1234067 is `x001/x234/067`, with `.p/<width>` while it is not full."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups) + ("" if width == WIDTH else f".p/{width}")


class Export:
    """An export as it is read, entry by entry: the right edge of its tree, and the latest entry of each run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.size, self.payloads = folder, 0, 0
        self.levels: list[list[bytes]] = [[]]  # of each level of tiles, the hashes after its last full tile
        self.runs: dict[str, tuple[int, str]] = {}

    def entries(self, size: int) -> Iterator[bytes]:
        """The first `size` entries; each stands after its length in two bytes."""
        for first in range(0, size, WIDTH):
            width = min(WIDTH, size - first)
            raw, at = (self.folder / "tile/entries" / path(first // WIDTH, width)).read_bytes(), 0
            for index in range(first, first + width):
                end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
                need(at + 2 <= end <= len(raw), f"entry {index}: its bundle ends before it does")
                yield raw[at + 2 : end]
                at = end
            need(at == len(raw), f"entry {first + width - 1}: its bundle goes on after it")

    def take(self, leaf: bytes) -> None:
        """Check one entry, and the tiles that it fills."""
        fields, leaf_hash = json.loads(leaf), sha256(b"\x00", leaf)
        plain = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        need(plain == leaf, "it is not in canonical form (RFC 8785)")
        if run := fields.get("run"):
            due = self.runs.get(run, (0, ""))
            need((fields["run_seq"], fields["run_prev"]) == due, f"it does not continue run {run} at number {due[0]}")
            self.runs[run] = (due[0] + 1, leaf_hash.hex())
        payload = self.folder / "payloads" / f"{path(self.size)}.json"
        if payload.exists():
            self.payloads += 1
            told = json.loads(payload.read_bytes())
            raw = bytes.fromhex(told["salt"]) + told["payload"].encode()
            need(told["index"] == self.size and len(told["salt"]) == 64, "its payload's file is another's")
            need(sha256(raw).hex() == fields.get("payload"), "its payload is not the one that was recorded")
        self.size, level, node = self.size + 1, 0, leaf_hash
        self.levels[0].append(node)
        while len(full := self.levels[level]) == WIDTH:
            self.check_tile(level)
            self.levels[level], level = [], level + 1
            self.levels += [[]] if level == len(self.levels) else []
            self.levels[level].append(merge(full))

    def check_tile(self, level: int) -> None:
        """The file of the tile that ends at the right edge holds the hashes that the entries give."""
        hashes = self.levels[level]
        name = f"tile/{level}/{path(((self.size >> 8 * level) - 1) // WIDTH, len(hashes))}"
        need((self.folder / name).read_bytes() == b"".join(hashes), f"{name} is not what the entries give")

    def root(self) -> bytes:
        """The root of the tree over all entries so far."""
        below: list[bytes] = []
        for hashes in self.levels:
            below = [merge(hashes + below)] if hashes + below else []
        return below[0] if below else sha256()


def verify(folder: Path, policy: Policy, earlier: list[str]) -> str:
    """Check everything, and say what was found; raises NotVerifiedError and whatever unreadable files raise."""
    size, root = open_checkpoint((folder / "checkpoint").read_text(encoding="utf-8"), policy, quorum=True)
    kept = [open_checkpoint(note, policy, quorum=False) for note in earlier]
    need(all(old <= size for old, _ in kept), f"an earlier checkpoint speaks of more than these {size} entries")
    export = Export(folder)
    for leaf in export.entries(size):
        need((export.size, export.root()) not in () and True, "")
        export.take(leaf)
    return ""
