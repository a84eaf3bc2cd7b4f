"""Verify an exported journal with Python and the package `cryptography` alone; nothing else of its maker is needed.

    python verify.py [FOLDER] [--policy FILE] [--earlier CHECKPOINT]...

FOLDER is the export (by default where this file stands); --policy says whose signatures to believe (by default
FOLDER/policy, the log's own word: get it from somebody else); --earlier is a checkpoint kept from before: the log must
still begin with exactly what it speaks of. Every entry is read once; the first thing that is wrong ends it.

1. `checkpoint` is a note (c2sp.org/signed-note) with the log's name, size and Merkle root (c2sp.org/tlog-checkpoint),
   signed by a log and as many witnesses (c2sp.org/tlog-cosignature) as the policy asks for (c2sp.org/tlog-policy).
2. The entries in `tile/entries` (c2sp.org/tlog-tiles) give that root (RFC 9162, 2.1.1); other tiles only repeat it.
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
WIDTH = 256  # entries in a full bundle


def need(holds: object, otherwise: str) -> None:
    """Go on only if it holds; raises ValueError with the sentence that says what is wrong."""
    if not holds:
        raise ValueError(otherwise)


def sha256(*parts: bytes) -> bytes:
    """The hash of these bytes, end to end."""
    return hashlib.sha256(b"".join(parts)).digest()


def decode(text: str) -> bytes:
    """Base64, in the one spelling that these bytes have."""
    raw = base64.b64decode(text, validate=True)
    need(base64.b64encode(raw).decode() == text, f"not in canonical base64: {text}")
    return raw


class Policy:
    """Whom to believe: keys by name and key id; and groups, of which the one named "" is the quorum."""

    def __init__(self, text: str) -> None:
        self.keys: dict[tuple[str, bytes], tuple[bytes, bytes, str | None]] = {}  # -> type, key, witness's name
        self.groups: dict[str, tuple[int, list[str]]] = {}  # how many of which members
        for words in map(str.split, text.splitlines()):
            if words and not words[0].startswith("#"):
                need(self._takes(words), f"the policy has a line that makes no sense: {' '.join(words)}")
        need("" in self.groups, "the policy has no quorum line")

    def _takes(self, words: list[str]) -> bool:
        match words:
            case ["log", key, *_]:
                return self._takes_key(LOG, key, None)
            case ["witness", name, key, *_] if name not in self.groups:
                self.groups[name] = (1, [])
                return self._takes_key(WITNESS, key, name)
            case ["group", name, count, *members] if name not in self.groups:
                known = set(members) & self.groups.keys()
                self.groups[name] = ({"any": 1, "all": len(members)}.get(count) or int(count), members)
                return 1 <= self.groups[name][0] <= len(members) == len(known)
            case ["quorum", name] if "" not in self.groups and (name == "none" or name in self.groups):
                self.groups[""] = (0, []) if name == "none" else (1, [name])
                return True
        return False

    def _takes_key(self, kind: bytes, text: str, name: str | None) -> bool:
        """A verifier key is written `name+hex(id)+base64(type || key)`."""
        whose, key_id, encoded = text.split("+", 2)
        raw = decode(encoded)
        self.keys[whose, bytes.fromhex(key_id)] = (kind, raw[1:], name)
        return raw[:1] == kind and sha256(whose.encode(), b"\n", raw)[:4].hex() == key_id

    def satisfied(self, name: str, signed: set[str | None]) -> bool:
        """Whether this witness cosigned, or enough members of this group."""
        threshold, members = self.groups[name]
        return name in signed or sum(self.satisfied(each, signed) for each in members) >= threshold


def open_checkpoint(note: str, policy: Policy, *, quorum: bool) -> tuple[int, bytes]:
    """Size and root of a checkpoint whose signatures are those that the policy asks for."""
    body, _, signatures = note.rpartition("\n\n")
    need(note.endswith("\n") and body.count("\n") == 2, "the checkpoint is not one")
    origin, size, root = body.split("\n")
    signed: set[str | None] = set()
    for line in signatures[:-1].split("\n"):
        dash, name, encoded = line.split(" ")
        raw, message = decode(encoded), f"{body}\n".encode()
        kind, key, alias = policy.keys.get((name, raw[:4]), (b"", b"", ""))
        need(dash == "\u2014", f"not a signature for {origin}: {line}")
        if kind == WITNESS:
            message = b"cosignature/v1\ntime %d\n%s" % (int.from_bytes(raw[4:12], "big"), message)
        if kind == WITNESS or (kind == LOG and name == origin):  # others vouch for nothing here
            Ed25519PublicKey.from_public_bytes(key).verify(raw[12 if kind == WITNESS else 4 :], message)
            signed.add(alias)
    need(None in signed, "no log that the policy knows signed the checkpoint")
    need(not quorum or policy.satisfied("", signed), "too few witnesses cosigned the checkpoint")
    need(size.isdecimal() and str(int(size)) == size and len(decode(root)) == 32, "the checkpoint has no size or root")
    return int(size), decode(root)


def path(index: int, width: int = WIDTH) -> str:
    """Where number `index` stands: 1234067 is `x001/x234/067`, and ends in `.p/<width>` while it is not full."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups) + ("" if width == WIDTH else f".p/{width}")


class Export:
    """An export as far as it was read: the right edge of its tree, and where each run has got to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.size, self.payloads = folder, 0, 0
        self.edge: list[bytes] = []  # the roots of the complete subtrees that make up the tree, largest first
        self.runs: dict[str, tuple[int, str]] = {}  # number and previous hash that the run's next entry must tell

    def entries(self, size: int) -> Iterator[bytes]:
        """The first `size` entries; each stands after its length in two bytes."""
        for first in range(0, size, WIDTH):
            width = min(WIDTH, size - first)
            raw, at = (self.folder / "tile/entries" / path(first // WIDTH, width)).read_bytes(), 0
            for _ in range(width):
                start, at = at + 2, at + 2 + int.from_bytes(raw[at : at + 2], "big")
                need(start <= at <= len(raw), "its bundle ends before it does")
                yield raw[start:at]
            need(at == len(raw), "its bundle goes on after its last entry")

    def take(self, leaf: bytes) -> None:
        """Check one entry and add it to the tree."""
        fields, node = json.loads(leaf), sha256(b"\x00", leaf)
        plain = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        need(plain == leaf, "it is not in canonical form (RFC 8785)")
        if run := fields.get("run"):
            number, previous = self.runs.get(run, (0, ""))
            need((fields["run_seq"], fields["run_prev"]) == (number, previous), f"it is not number {number} of its run")
            self.runs[run] = (number + 1, node.hex())
        payload = self.folder / "payloads" / f"{path(self.size)}.json"
        if payload.exists():
            told = json.loads(payload.read_bytes())
            salt, self.payloads = bytes.fromhex(told["salt"]), self.payloads + 1
            found = (told["index"], told["salt"], len(salt), sha256(salt, told["payload"].encode()).hex())
            need(found == (self.size, salt.hex(), 32, fields.get("payload")), "its payload is not what was recorded")
        carry, self.size = self.size, self.size + 1
        while carry & 1:  # two complete subtrees of one size stand side by side: they become one
            node, carry = sha256(b"\x01", self.edge.pop(), node), carry >> 1
        self.edge.append(node)

    def root(self) -> bytes:
        """The root of the tree over all entries so far."""
        *rest, root = self.edge or [sha256()]
        for left in reversed(rest):
            root = sha256(b"\x01", left, root)
        return root


def verify(folder: Path, policy: Policy, earlier: list[str]) -> str:
    """Check everything and say what was found; raises ValueError, or what unreadable files and keys raise."""
    size, root = open_checkpoint((folder / "checkpoint").read_bytes().decode(), policy, quorum=True)
    claims = [(size, root), *(open_checkpoint(note, policy, quorum=False) for note in earlier)]
    need(all(0 < old <= size for old, _ in claims), f"a checkpoint speaks of none or more than these {size} entries")
    export = Export(folder)
    try:
        for leaf in export.entries(size):
            export.take(leaf)
            good = all(old != export.size or old_root == export.root() for old, old_root in claims)
            need(good, "the entries up to here are not those of the checkpoint over them")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"after {export.size} entries: {error}") from error
    need(export.payloads == sum(1 for _ in folder.glob("payloads/**/*.json")), "a payload belongs to no entry")
    return f"{size} entries in {len(export.runs)} runs, {export.payloads} payloads, root {root.hex()}: all verified"


def main() -> None:
    """Verify what the command line names; the exit code is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--earlier", type=Path, action="append", default=[])
    told = parser.parse_args()
    try:
        policy = Policy((told.policy or told.folder / "policy").read_text(encoding="utf-8"))
        found = verify(told.folder, policy, [each.read_bytes().decode() for each in told.earlier])
    except (InvalidSignature, OSError, ValueError) as error:
        sys.exit(f"NOT VERIFIED: {str(error) or 'a signature is wrong'}")
    whose = "" if told.policy else "; the keys are those that the export itself names: compare them"
    sys.stdout.write(f"{found}{whose}\n")


if __name__ == "__main__":
    main()
