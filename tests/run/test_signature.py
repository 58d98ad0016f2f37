"""A signature is accepted only for the right results and by the right key."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from redline._errors import ExitCode
from redline.results import Results
from redline.run import RunFolder, RunOptions
from redline.run.chain import chained
from redline.run.signature import Signature, read_private_key, signed_line
from tests.run.folders import a_run, changed, say

pytestmark = pytest.mark.cell  # needs a runtime, although no cell is created

TRIALS = 2
PEM = (Encoding.PEM, PrivateFormat.PKCS8, PublicFormat.SubjectPublicKeyInfo)
OPENSSH = (Encoding.PEM, PrivateFormat.OpenSSH, PublicFormat.OpenSSH)


def written_key(folder: Path, key: Ed25519PrivateKey, kind: tuple[Encoding, PrivateFormat, PublicFormat]) -> Path:
    """Write a private key and, next to it as `.pub`, the public key."""
    encoding, private, public = kind
    path = folder / "key"
    path.write_bytes(key.private_bytes(encoding, private, NoEncryption()))
    outer = Encoding.OpenSSH if public is PublicFormat.OpenSSH else Encoding.PEM
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(outer, public))
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_key(tmp_path_factory.mktemp("key"), Ed25519PrivateKey.generate(), PEM)


@pytest.fixture(scope="module")
def public(key: Path) -> Path:
    return key.with_suffix(".pub")


@pytest.fixture(scope="module")
def signed(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    a_run(folder, RunOptions(cells=1, key=read_private_key(key)), trials=TRIALS)
    return folder


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "copy"))


@pytest.mark.parametrize("kind", [PEM, OPENSSH], ids=["pem", "openssh"])
def test_a_signed_run_is_verified_with_the_public_key(
    kind: tuple[Encoding, PrivateFormat, PublicFormat], tmp_path: Path
) -> None:
    path = written_key(tmp_path, Ed25519PrivateKey.generate(), kind)
    a_run(tmp_path / "out", RunOptions(cells=1, key=read_private_key(path)), trials=TRIALS)
    said = say("verify", tmp_path / "out", "--key", path.with_suffix(".pub"))
    assert (said.code, said.err) == (ExitCode.OK, "")
    assert "signed by this key" in said.out


def test_the_signed_bytes_are_the_name_of_the_format_and_the_head(signed: Path, key: Path) -> None:
    head = Results.model_validate_json((signed / "results.json").read_bytes()).chain.head
    signature = Signature.model_validate_json((signed / "signature.json").read_bytes())
    public = read_private_key(key).public_key()
    public.verify(bytes.fromhex(signature.signature), f"redline.signature/1 {head}\n".encode())
    assert signed_line(head) == f"redline.signature/1 {head}\n".encode()


def test_another_key_is_reported(signed: Path, tmp_path: Path) -> None:
    other = written_key(tmp_path, Ed25519PrivateKey.generate(), PEM).with_suffix(".pub")
    said = say("verify", signed, "--key", other)
    assert said.code == ExitCode.EVIDENCE
    assert "signature.json was made with another key" in said.err


def test_a_missing_signature_is_reported_if_one_is_required(copy: Path, public: Path) -> None:
    (copy / "signature.json").unlink()
    assert say("verify", copy).code == ExitCode.OK
    said = say("verify", copy, "--key", public)
    assert said.code == ExitCode.EVIDENCE
    assert "signature.json is missing" in said.err


def test_a_recomputed_chain_has_no_valid_signature(copy: Path, public: Path) -> None:
    results = Results.model_validate_json((copy / "results.json").read_bytes())
    forged = chained(results.model_copy(update={"redline_version": "0.0.1"}), RunFolder(copy))
    (copy / "results.json").write_text(forged.document())
    for arguments in (("verify", copy), ("verify", copy, "--key", public)):
        said = say(*arguments)
        assert said.code == ExitCode.EVIDENCE
        assert "signature.json belongs to other results" in said.err


def test_a_signature_by_an_unknown_key_is_not_accepted(copy: Path, public: Path) -> None:
    head = Results.model_validate_json((copy / "results.json").read_bytes()).chain.head
    mine = Ed25519PrivateKey.generate()
    own = Signature.model_validate_json((copy / "signature.json").read_bytes())
    forged = own.model_copy(update={"signature": mine.sign(signed_line(head)).hex()})
    (copy / "signature.json").write_text(forged.document())
    said = say("verify", copy, "--key", public)
    assert said.code == ExitCode.EVIDENCE
    assert "signature.json is altered" in said.err


@given(place=st.floats(0, 1), bit=st.integers(0, 7), with_key=st.booleans())
def test_a_flipped_bit_in_the_signature_is_reported(
    signed: Path, public: Path, place: float, bit: int, with_key: bool
) -> None:
    content = bytearray((signed / "signature.json").read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    with changed(signed / "signature.json", bytes(content)):
        said = say("verify", signed, *(("--key", public) if with_key else ()))
    assert said.code == ExitCode.EVIDENCE
    assert "signature.json" in said.err


def test_a_run_resumed_without_its_key_loses_the_earlier_signature(copy: Path, key: Path) -> None:
    (copy / "more.jsonl").write_text("{}\n")
    outcome = a_run(copy, trials=TRIALS, alarm=False)
    assert not (copy / "signature.json").exists()
    assert any("sign again with --sign KEY" in remark for remark in outcome.remarks)
    a_run(copy, RunOptions(cells=1, key=read_private_key(key)), trials=TRIALS, alarm=False)
    assert say("verify", copy, "--key", key.with_suffix(".pub")).code == ExitCode.OK


def test_the_same_results_keep_their_signature(copy: Path, public: Path) -> None:
    a_run(copy, trials=TRIALS, alarm=False)
    assert say("verify", copy, "--key", public).code == ExitCode.OK


def no_key(path: Path) -> None:
    path.write_text("this is no key\n")


def no_file(path: Path) -> None:
    assert not path.exists()


def other_kind(path: Path) -> None:
    made = generate_private_key(SECP256R1())
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def with_passphrase(path: Path) -> None:
    made, locked = Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))


def public_instead(path: Path) -> None:
    made = Ed25519PrivateKey.generate().public_key()
    path.write_bytes(made.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def private_instead(path: Path) -> None:
    made = Ed25519PrivateKey.generate()
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


@pytest.mark.parametrize("make", [no_key, no_file, other_kind, with_passphrase, public_instead, binary])
def test_a_file_that_cannot_sign_is_reported_before_anything_runs(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "key")
    command = ("run", "self_replication", "--model", "redline/refuser", "--runtime", "runc")
    said = say(*command, "--out", tmp_path / "out", "--sign", tmp_path / "key")
    assert (said.code, said.out, said.err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert str(tmp_path / "key") in said.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [no_key, no_file, other_kind, private_instead, binary])
def test_a_file_without_a_public_key_is_reported(make: Callable[[Path], None], signed: Path, tmp_path: Path) -> None:
    make(tmp_path / "key")
    said = say("verify", signed, "--key", tmp_path / "key")
    assert (said.code, said.out, said.err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert str(tmp_path / "key") in said.err


def test_a_key_for_a_single_file_is_refused(signed: Path, public: Path) -> None:
    said = say("verify", next((signed / "evidence").glob("*.json")), "--key", public)
    assert (said.code, said.err.count("\n")) == (ExitCode.USAGE, 1)
