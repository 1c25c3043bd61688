"""The opened images of all users, up to a limit."""

import threading
from collections import OrderedDict

from lossmith.studio.session import ImageSession

__all__ = ["SessionStore"]


class SessionStore:
    """The opened images by user; the one that was idle longest is dropped if there are too many.

    Args:
        capacity: The largest number of images.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._sessions: OrderedDict[str, ImageSession] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def put(self, user: str, session: ImageSession) -> None:
        """Keep the image of a user in place of the one before."""
        with self._lock:
            dropped = [self._sessions.pop(user)] if user in self._sessions else []
            self._sessions[user] = session
            while len(self._sessions) > self.capacity:
                dropped.append(self._sessions.popitem(last=False)[1])
        for old in dropped:
            old.close()

    def get(self, user: str) -> ImageSession:
        """Return the image of a user.

        Raises:
            ValueError: The user has opened none, or it was dropped.
        """
        with self._lock:
            if user not in self._sessions:
                raise ValueError("There is no image, or it was removed from memory; drop an image.")
            self._sessions.move_to_end(user)
            return self._sessions[user]

    def drop(self, user: str) -> None:
        """Forget the image of a user."""
        with self._lock:
            session = self._sessions.pop(user, None)
        if session is not None:
            session.close()
