"""What a repository is given: ways to open a session."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy.orm import Session

Sessions = Callable[[], AbstractContextManager[Session]]
