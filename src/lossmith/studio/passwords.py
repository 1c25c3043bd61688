"""The password file of a studio: names of users and salted hashes of their passwords."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import final

from lossmith._files import write_text_atomically

__all__ = ["PasswordFile"]

COST, BLOCK_SIZE, PARALLELISM = 2**14, 8, 1
"""The parameters of scrypt: 16 MB and some 50 ms for each password, as RFC 7914 suggests for logins."""
MIN_LENGTH = 8


@final
class PasswordFile:
    """Users in a text file, one a line: ``name:scrypt:salt:hash``, the last two in hexadecimal.

    The file is read at every login, so that changes count at once. A password cannot be read from it.

    Args:
        file: The file.

    Example:
        >>> import tempfile
        >>> users = PasswordFile(Path(tempfile.mkdtemp()) / "users.txt")
        >>> users.add("ada", "correct horse")
        >>> users.check("ada", "correct horse"), users.check("ada", "wrong horse"), users.check("bob", "")
        (True, False, False)
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, tuple[bytes, bytes]]:
        """Return the salt and the hash of each user.

        Raises:
            ValueError: The file does not exist, is empty, or has another form.
        """
        cure = f"Add a user by `lossmith studio --auth {self.file} --add-user NAME`."
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ValueError(f"The password file {str(self.file)!r} cannot be read: {reason}. {cure}") from None
        users = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                name, method, salt, hashed = line.strip().split(":")
                users[name] = bytes.fromhex(salt), bytes.fromhex(hashed)
            except ValueError:
                method = ""
            if method != "scrypt":
                raise ValueError(f"Line {number} of {str(self.file)!r} must be name:scrypt:salt:hash. {cure}")
        if not users:
            raise ValueError(f"The password file {str(self.file)!r} has no user. {cure}")
        return users

    def check(self, name: str, password: str) -> bool:
        """Return whether a password is that of a user; an unknown name takes as long as a wrong password."""
        salt, expected = self.read().get(name, (b"", b""))
        return hmac.compare_digest(_hash(password, salt), expected) and bool(expected)

    def add(self, name: str, password: str) -> None:
        """Add a user, or replace the password; the file is readable for its owner only.

        Raises:
            ValueError: The name has other characters than letters, digits and ``._@-``, or the password is short.
        """
        if not name or not all(char.isalnum() or char in "._@-" for char in name):
            raise ValueError(f"A user's name has letters, digits and ._@- only; got {name!r}.")
        if len(password) < MIN_LENGTH:
            raise ValueError(f"A password needs at least {MIN_LENGTH} characters; got {len(password)}.")
        users = self.read() if self.file.exists() and self.file.stat().st_size else {}
        salt = secrets.token_bytes(16)
        users[name] = salt, _hash(password, salt)
        lines = [f"{each}:scrypt:{salt.hex()}:{hashed.hex()}\n" for each, (salt, hashed) in users.items()]
        if not self.file.exists():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.file, os.O_CREAT | os.O_WRONLY, 0o600))
        write_text_atomically(self.file, "".join(lines))
        self.file.chmod(0o600)


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=COST, r=BLOCK_SIZE, p=PARALLELISM)
