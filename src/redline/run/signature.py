"""Ed25519 signature of the head of a run's chain, which shows who issued the folder."""

from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from pydantic import Field

from redline._base import Frozen
from redline._errors import EvidenceError, UsageError
from redline._names import one_line
from redline._records import read_bounded, record_limits, strict_json
from redline.run.folder import RunFolder, write_text

OPENSSH_MARK = b"-----BEGIN OPENSSH PRIVATE KEY-----"
PEM_MARK = b"-----BEGIN "


class Signature(Frozen):
    """The document `signature.json`."""

    schema_: Literal["redline.signature/1"] = Field(default="redline.signature/1", alias="schema")
    """Version of this format."""
    head: str = Field(pattern="^[0-9a-f]{64}$")
    """Signed head of the chain."""
    public_key: str = Field(pattern="^[0-9a-f]{64}$")
    """Ed25519 public key of the signer, 32 bytes in hex."""
    signature: str = Field(pattern="^[0-9a-f]{128}$")
    """Ed25519 signature of the line `redline.signature/1 HEAD`, including its line feed."""

    def document(self) -> str:
        """Return the text of the file."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def signed_line(head: str) -> bytes:
    """Return the bytes to sign; the name of the format precedes the head, so that no other data matches."""
    return f"redline.signature/1 {head}\n".encode()


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the private key in a PEM or OpenSSH file.

    Raises:
        UsageError: The file contains no key that can sign.
    """
    content = _read(path)
    try:
        load = load_ssh_private_key if content.startswith(OPENSSH_MARK) else load_pem_private_key
        key = load(content, password=None)
    except TypeError as error:
        raise UsageError(f"the key {path} has a passphrase: use a key without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not an Ed25519 private key in PEM or OpenSSH format") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 private key: create one with ssh-keygen -t ed25519")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read the public key in a PEM or OpenSSH file.

    Raises:
        UsageError: The file contains no public key.
    """
    content = _read(path)
    try:
        key = load_pem_public_key(content) if content.startswith(PEM_MARK) else load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not an Ed25519 public key in PEM or OpenSSH format") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is not an Ed25519 public key in PEM or OpenSSH format")
    return key


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, record_limits().key_bytes)
    except OSError as error:
        raise UsageError(f"cannot read the key {path}: {error.strerror}") from error


def sign(folder: RunFolder, head: str, key: Ed25519PrivateKey) -> None:
    """Write the signature of a chain's head next to the results."""
    signature = Signature(head=head, public_key=_hex(key.public_key()), signature=key.sign(signed_line(head)).hex())
    write_text(folder.signature, signature.document())


def drop_stale(folder: RunFolder, head: str) -> bool:
    """Remove a signature of another head; return whether there was one."""
    try:
        stale = folder.files.read(folder.signature.name).decode(errors="replace")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise EvidenceError(f"{folder.signature.name} cannot be read: {error.strerror}") from error
    if f'"{head}"' in stale:
        return False
    folder.signature.unlink()
    return True


def signed_by(folder: RunFolder, head: str, key: Ed25519PublicKey | None) -> str | None:
    """Return the public key, in hex, that signed the head of a folder's chain; None without a signature.

    Args:
        folder: The folder.
        head: Head of its chain.
        key: Required signer; None accepts any valid signature.

    Raises:
        EvidenceError: The signature is altered, is of other results or by another key, or the required one is missing.
    """
    name = folder.signature.name
    found = _read_signature(folder)
    if found is None:
        if key is not None:
            raise EvidenceError(f"{name} is missing: the run is not signed")
        return None
    if key is not None and found.public_key != _hex(key):
        raise EvidenceError(f"{name} was made with another key: {found.public_key}")
    if found.head != head:
        raise EvidenceError(f"{name} belongs to other results: it signs the head {found.head}")
    if not _is_valid(found):
        raise EvidenceError(f"{name} is altered: the signature does not match its key")
    return found.public_key


def _read_signature(folder: RunFolder) -> Signature | None:
    try:
        content = folder.files.read(folder.signature.name)
        strict_json(content)
        signature = Signature.model_validate_json(content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EvidenceError(f"{folder.signature.name} is altered: {error.strerror}") from error
    except ValueError as error:
        raise EvidenceError(f"{folder.signature.name} is altered: {one_line(error)}") from error
    if signature.document().encode() != content:
        raise EvidenceError(f"{folder.signature.name} is altered: its bytes do not match the format")
    return signature


def _is_valid(found: Signature) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.public_key))
        key.verify(bytes.fromhex(found.signature), signed_line(found.head))
    except InvalidSignature:
        return False
    return True


def _hex(key: Ed25519PublicKey) -> str:
    return key.public_bytes_raw().hex()
