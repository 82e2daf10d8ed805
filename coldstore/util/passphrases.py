"""
A text that only a passphrase opens, as a text again, which says how.

The key is made from the passphrase by scrypt (RFC 7914), the text is encrypted by AES-256-GCM. What opens it without us is a script
of twelve lines, in the lines of the text that begin with ``#> ``.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from textwrap import wrap

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MARK = "coldstore-sealed-1"
SALT_BYTES = 16
NONCE_BYTES = 12
_KEY_BYTES = 32
_COST, _BLOCK, _PARALLEL = 1 << 17, 8, 1
"""128 MiB and about half a second; as OWASP's "Password Storage Cheat Sheet" has it."""
_COST_MAX = 1 << 22
_LINE = 76
_HEAD = """\
# {what}
# It is encrypted under a passphrase. Without ColdStore, with Python and its package "cryptography":
#   sed -n 's/^#> //p' THIS-FILE > open.py
#   python3 open.py THIS-FILE > OPENED        (asks for the passphrase)
#
"""
SCRIPT = """\
import base64, getpass, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
lines = [line for line in open(sys.argv[1]) if not line.startswith("#")]
mark, cost, block, parallel, salt, nonce = lines[0].split()
word = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\\n")
kdf = Scrypt(base64.b64decode(salt), 32, int(cost), int(block), int(parallel))
cipher = AESGCM(kdf.derive(word.encode()))
sealed = base64.b64decode("".join(lines[1:]))
sys.stdout.write(cipher.decrypt(base64.b64decode(nonce), sealed, mark.encode()).decode())
"""


class WrongPassphrase(ValueError):
    """It is another one; or the text was altered."""


def is_sealed(text: str) -> bool:
    """Whether a text is one that a passphrase opens."""
    return any(line.startswith(f"{MARK} ") for line in text.splitlines())


def sealed_text(text: str, passphrase: str, *, what: str, salt: bytes, nonce: bytes) -> str:
    """
    Encrypt a text.

    :param what: one line for people, what it is
    :param salt: of ``SALT_BYTES``, by chance
    :param nonce: of ``NONCE_BYTES``, by chance
    """
    cipher = AESGCM(_key(passphrase, salt, _COST, _BLOCK, _PARALLEL))
    sealed = b64encode(cipher.encrypt(nonce, text.encode("utf-8"), MARK.encode("ascii"))).decode("ascii")
    script = "".join(f"#> {line}\n" for line in SCRIPT.splitlines())
    numbers = f"{MARK} {_COST} {_BLOCK} {_PARALLEL} {_text(salt)} {_text(nonce)}"
    return _HEAD.format(what=what) + script + "\n".join([numbers, *wrap(sealed, _LINE)]) + "\n"


def opened_text(text: str, passphrase: str) -> str:
    """
    Undo ``sealed_text``.

    :raise WrongPassphrase: it is another one, or the text was altered
    :raise ValueError: it is no such text
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        mark, cost, block, parallel, salt, nonce = lines[0].split()
        numbers = int(cost), int(block), int(parallel)
        if mark != MARK or not (1 < numbers[0] <= _COST_MAX and numbers[1:] == (_BLOCK, _PARALLEL)):
            raise ValueError(mark)
        sealed = b64decode("".join(lines[1:]), validate=True)
        cipher = AESGCM(_key(passphrase, b64decode(salt, validate=True), *numbers))
        return cipher.decrypt(b64decode(nonce, validate=True), sealed, MARK.encode("ascii")).decode("utf-8")
    except InvalidTag:
        raise WrongPassphrase("this is not the passphrase, or the text was altered") from None
    except (Base64Error, ValueError, IndexError):
        raise ValueError("it is not a text that a passphrase opens, or is not whole") from None


def _key(passphrase: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return Scrypt(salt=salt, length=_KEY_BYTES, n=cost, r=block, p=parallel).derive(
        passphrase.encode("utf-8")
    )


def _text(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")
