"""An Ed25519 signature over the head of a run's chain: it shows by whom a folder was handed on."""

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
    """Head of the chain that is signed."""
    public_key: str = Field(pattern="^[0-9a-f]{64}$")
    """The Ed25519 key of the one who signed, its 32 bytes in hex."""
    signature: str = Field(pattern="^[0-9a-f]{128}$")
    """Ed25519 signature of the line `redline.signature/1 HEAD`, its line feed included."""

    def document(self) -> str:
        """The text of the file."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def signed_line(head: str) -> bytes:
    """What is signed: with the format's name before the head, so that it can be taken for nothing else."""
    return f"redline.signature/1 {head}\n".encode()


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM or OpenSSH file.

    Raises:
        UsageError: There is none that can sign.
    """
    content = _read(path)
    try:
        load = load_ssh_private_key if content.startswith(OPENSSH_MARK) else load_pem_private_key
        key = load(content, password=None)
    except TypeError as error:
        raise UsageError(f"the key {path} has a passphrase: give one without") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is no Ed25519 private key in PEM or OpenSSH format") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is no Ed25519 private key: make one with ssh-keygen -t ed25519")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM or OpenSSH file.

    Raises:
        UsageError: There is none.
    """
    content = _read(path)
    try:
        key = load_pem_public_key(content) if content.startswith(PEM_MARK) else load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is no Ed25519 public key in PEM or OpenSSH format") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is no Ed25519 public key in PEM or OpenSSH format")
    return key


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, record_limits().key_bytes)
    except OSError as error:
        raise UsageError(f"cannot read the key {path}: {error.strerror}") from error


def sign(folder: RunFolder, head: str, key: Ed25519PrivateKey) -> None:
    """Writes the signature of a chain's head beside the results."""
    signature = Signature(head=head, public_key=_hex(key.public_key()), signature=key.sign(signed_line(head)).hex())
    write_text(folder.signature, signature.document())


def drop_stale(folder: RunFolder, head: str) -> bool:
    """Removes a signature that is of another head than this; returns whether there was one."""
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
    """The public key, in hex, that signed the head of a folder's chain; None where nobody did.

    Args:
        folder: The folder.
        head: The head of its chain.
        key: Whose signature it must be; without one, it must only be right in itself.

    Raises:
        EvidenceError: The signature is altered, of other results or of another key, or there is none of the key.
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
        raise EvidenceError(f"{name} is of other results: it signs the head {found.head}")
    if not _holds(found):
        raise EvidenceError(f"{name} is altered: the signature is not of its key")
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
        raise EvidenceError(f"{folder.signature.name} is altered: its bytes are not those of the format")
    return signature


def _holds(found: Signature) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.public_key))
        key.verify(bytes.fromhex(found.signature), signed_line(found.head))
    except InvalidSignature:
        return False
    return True


def _hex(key: Ed25519PublicKey) -> str:
    return key.public_bytes_raw().hex()
